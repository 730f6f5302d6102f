// A heat map of tokens × layers, and the same numbers as a table.

import { h } from "../dom.js";
import { number, probability, token } from "../format.js";
import { roving } from "./grid.js";

/** What is less than this makes the answer less likely, rather than leaving it alone. */
export const BELOW = -0.01;
/** From this share on a cell is so dark that its text has to be light. */
export const DARK = 0.65;

/**
 * values[token][layer]; marked: set of token indices; onpick(token, layer, value) when a cell is chosen.
 * low and high are the ends of the scale, the same for maps that are compared.
 */
export function heatmap({ title, tokens, layers, values, marked, low, high, onpick }) {
  const span = high - low || 1;
  const rows = [];
  const head = h("tr", { role: "row" }, h("th", { role: "columnheader" }, h("span", { class: "unseen" }, "token")),
    layers.map((layer) => h("th", { role: "columnheader", class: "heat-layer" }, String(layer))));
  const body = tokens.map((text, t) => {
    const cells = layers.map((layer, l) => {
      const value = values[t][l];
      const share = value === null ? 0 : Math.max(0, Math.min(1, (value - low) / span));
      const cell = h("td", {
        role: "gridcell", class: `heat-cell${value !== null && value < BELOW ? " heat-below" : ""}`, vars: { share: share.toFixed(3) },
        "aria-label": `${token(text)}, layer ${layer}: ${probability(value)}`, title: `${token(text)} · layer ${layer} · ${number(value)}`,
      });
      const pick = () => {
        for (const other of rows.flat()) other.removeAttribute("aria-selected");
        cell.setAttribute("aria-selected", "true");
        onpick(t, layer, value);
      };
      cell.addEventListener("click", pick);
      cell.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          pick();
        }
      });
      return cell;
    });
    rows.push(cells);
    return h("tr", { role: "row" },
      h("th", { role: "rowheader", class: marked.has(t) ? "heat-token heat-subject" : "heat-token" }, token(text),
        marked.has(t) ? h("span", { class: "unseen" }, " (subject)") : null),
      cells);
  });
  const grid = h("table", { role: "grid", class: "heat", "aria-label": `${title}: tokens by layers` },
    h("thead", { role: "rowgroup" }, head), h("tbody", { role: "rowgroup" }, body));
  roving(grid, rows);
  return h("figure", { class: "heat-figure" }, h("figcaption", {}, title), h("div", { class: "scroll" }, grid));
}

/** The numbers of a map, to read. */
export function numbers({ title, tokens, layers, values, marked }) {
  return h("figure", { class: "heat-figure" }, h("figcaption", {}, title), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title },
    h("table", { class: "numbers" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "token"), layers.map((l) => h("th", { scope: "col" }, `layer ${l}`)))),
      h("tbody", {}, tokens.map((text, t) => h("tr", {},
        h("th", { scope: "row" }, token(text), marked.has(t) ? " (subject)" : ""),
        values[t].map((v) => h("td", {}, probability(v)))))))));
}

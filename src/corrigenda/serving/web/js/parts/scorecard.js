// The scorecard of an edit: did it take, who follows, who moved; every question with its answers.

import { button, h, replace } from "../dom.js";
import { change, sign } from "./answers.js";

const AXES = [
  ["efficacy", "Did it take?", "The edit itself"],
  ["generalization", "Do other wordings follow?", "Paraphrases"],
  ["portability", "Do consequences follow?", "What the edit implies"],
  ["locality", "Did the rest stay?", "Neighbours and unrelated facts"],
];
const LONG = 6;

function tally(group) {
  const asked = group.probes.filter((p) => p.passed !== null && p.passed !== undefined);
  return [asked.filter((p) => p.passed).length, asked.length];
}

function total(card, axis) {
  const given = card.summary?.[axis];
  if (given) return [given.passed, given.asked];
  const all = card.groups.filter((g) => g.axis === axis).map(tally);
  return all.reduce(([p, a], [q, b]) => [p + q, a + b], [0, 0]);
}

function tile([axis, title, text], [passed, asked]) {
  return h("div", { class: `tile${asked ? "" : " tile-none"}` },
    h("p", { class: "tile-title" }, title),
    h("p", { class: "tile-count" }, asked ? [h("strong", {}, String(passed)), ` of ${asked}`] : "not asked"),
    h("div", { class: "tile-bar", vars: { share: asked ? String(passed / asked) : "0" }, "aria-hidden": "true" }),
    h("p", { class: "hint" }, text));
}

function line(probe) {
  return h("tr", {},
    h("td", { class: "probe-sign" }, sign(probe.passed)),
    h("td", { class: "probe-prompt" }, probe.prompt),
    h("td", { class: "probe-answer" }, change(probe.before, probe.after),
      probe.passed === false && probe.wanted ? h("span", { class: "wanted" }, `wanted ${probe.wanted}`) : null));
}

function group(found) {
  const [passed, asked] = tally(found);
  // What failed comes first: that is what one looks for.
  const probes = [...found.probes].sort((a, b) => Number(a.passed ?? 1) - Number(b.passed ?? 1));
  const body = h("tbody", {}, probes.slice(0, LONG).map(line));
  const more = probes.length > LONG ? button(`Show all ${probes.length}`, () => {
    const folded = body.children.length === LONG;
    replace(body, (folded ? probes : probes.slice(0, LONG)).map(line));
    more.textContent = folded ? "Show fewer" : `Show all ${probes.length}`;
    more.setAttribute("aria-expanded", String(folded));
  }, { class: "button small", "aria-expanded": "false" }) : null;
  return h("section", { class: "group" },
    h("h4", {}, found.title || found.kind, h("span", { class: "group-count" }, ` ${passed} of ${asked}`)),
    h("table", { class: "probes" },
      h("thead", { class: "unseen" }, h("tr", {}, h("th", {}, "as wanted"), h("th", {}, "prompt"), h("th", {}, "answer"))),
      body),
    more);
}

export function scorecard(card) {
  const element = h("div", { class: "scorecard" });
  element.append(h("div", { class: "tiles" }, AXES.map((axis) => tile(axis, total(card, axis[0])))));
  const known = new Set(AXES.map(([axis]) => axis));
  const axes = [...AXES, ...[...new Set(card.groups.map((g) => g.axis))].filter((a) => !known.has(a)).map((a) => [a, a, ""])];
  for (const [axis, title] of axes) {
    const groups = card.groups.filter((g) => g.axis === axis && g.probes.length);
    if (!groups.length) continue;
    element.append(h("section", { class: "axis" }, h("h3", {}, title), h("div", {}, groups.map(group))));
  }
  if (card.note) element.append(h("p", { class: "hint" }, card.note));
  return element;
}

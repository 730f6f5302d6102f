// Graph: the facts around a subject, and what an edit did to each of them.

import { get } from "../api.js";
import { button, choice, empty, field, h, replace, say, skeleton, trouble } from "../dom.js";
import { relation } from "../format.js";
import { sign } from "../parts/answers.js";
import { radial } from "../parts/radial.js";
import { answer, kept, last, named, onchange, studio } from "../studio.js";

// Colour, line and sign together, so that none has to be told by colour.
const STATUS = {
  changed: ["Changed", "the edit itself", "solid", "diamond", 3.5],
  follow: ["Should follow", "from the edit", "dashed", "triangle", 2.5],
  stay: ["Stayed", "as it should", "solid", "circle", 1.5],
  leaked: ["Leaked", "moved and should not have", "dotted", "square", 3.5],
  plain: ["Fact", "not measured", "solid", "none", 1],
};
const SIGNS = { changed: "◆", follow: "▲", stay: "●", leaked: "■", plain: "–" };

const colours = () => {
  const style = getComputedStyle(document.querySelector(".view-graph") ?? document.body);
  const probe = h("span", {});
  document.body.append(probe);
  const read = (name) => {
    probe.style.color = style.getPropertyValue(name);
    return getComputedStyle(probe).color;
  };
  const names = ["ink", "ink-2", "sheet", "accent", "yes", "no", "warn", "rule-strong"];
  const out = Object.fromEntries(names.map((name) => [name, read(`--${name}`)]));
  probe.remove();
  return out;
};

/** Whether the model now says what it should, where an edit makes that a question. */
const answered = (edge) => sign(edge.status === "leaked" ? false
  : edge.status === "changed" || edge.status === "follow" ? edge.answer.toLowerCase().includes(edge.wanted.toLowerCase())
    : edge.status === "stay" ? true : null);

const NARROW = 520; // pixels; below it the names of relations do not fit

function sheet(named = true) {
  const c = colours();
  const tint = { changed: c.accent, follow: c.warn, stay: c["ink-2"], leaked: c.no, plain: c["rule-strong"] };
  return [
    { selector: "node", style: {
      label: "data(label)", "font-size": 12, "font-family": "system-ui, sans-serif", color: c.ink,
      "text-wrap": "wrap", "text-max-width": 110, "text-valign": "bottom", "text-margin-y": 4,
      "text-background-color": c.sheet, "text-background-opacity": 0.85, "text-background-padding": 1,
      width: 14, height: 14, "background-color": c.sheet, "border-width": 1.5, "border-color": c["ink-2"],
    } },
    { selector: "node[side = 'top']", style: { "text-valign": "top", "text-margin-y": -4 } },
    { selector: "node[side = 'left']", style: { "text-valign": "center", "text-halign": "left", "text-margin-x": -6, "text-margin-y": 0 } },
    { selector: "node[side = 'right']", style: { "text-valign": "center", "text-halign": "right", "text-margin-x": 6, "text-margin-y": 0 } },
    { selector: "node[kind = 'subject']", style: {
      width: 26, height: 26, "background-color": c.accent, "border-color": c.accent, "font-size": 14, "font-weight": 600,
    } },
    { selector: "node[kind = 'other']", style: { shape: "round-rectangle" } },
    { selector: "edge", style: {
      width: 1, "curve-style": "bezier", "target-arrow-shape": "none", "line-color": c["rule-strong"], "line-cap": "round",
      label: named ? "data(relation)" : "", "font-size": 10, "font-family": "system-ui, sans-serif", color: c["ink-2"],
      "text-background-color": c.sheet, "text-background-opacity": 0.9, "text-background-padding": 2, "min-zoomed-font-size": 7,
    } },
    ...Object.entries(STATUS).map(([status, [, , line, arrow, width]]) => ({
      selector: `edge[status = '${status}']`,
      style: { width, "line-style": line, "line-color": tint[status], "target-arrow-shape": arrow, "target-arrow-color": tint[status], "arrow-scale": 1.1 },
    })),
    { selector: ":selected", style: { "overlay-color": c.accent, "overlay-opacity": 0.15, "overlay-padding": 6 } },
  ];
}

export function mount(root) {
  const held = { subject: kept.read("draft")?.subject || "Eiffel Tower", number: "", list: matchMedia("(max-width: 40rem)").matches, ...kept.read("graph") };
  const save = () => kept.write("graph", held);
  let drawn = null;
  let asked = 0;

  const subject = h("input", { type: "text", value: held.subject, autocomplete: "off", spellcheck: "false" });
  const edit = h("select", {});
  const go = h("button", { class: "button primary", id: "draw" }, "Draw");
  const form = h("form", { class: "card graph-form" }, field("Facts around", subject), field("After edit", edit), go);
  const canvas = h("div", { class: "graph-canvas", role: "img", "aria-label": "Graph of facts; the same as a list is one switch away" });
  const place = h("div", { class: "graph-place" });
  const detail = h("div", { class: "card graph-detail", "aria-live": "polite" });
  const note = h("p", { class: "hint" });
  const legend = h("ul", { class: "legend", "aria-label": "Legend" }, Object.entries(STATUS).map(([status, [name, text]]) =>
    h("li", {}, h("span", { class: `key key-${status}`, "aria-hidden": "true" }, SIGNS[status]), h("span", {}, name, h("span", { class: "hint" }, ` ${text}`)))));
  const view = choice("How to show it", [["graph", "Graph"], ["list", "List"]], held.list ? "list" : "graph", (value) => {
    held.list = value === "list";
    save();
    draw();
  });
  let found = null;
  const scale = (by) => drawn?.zoom({ level: drawn.zoom() * by, renderedPosition: { x: canvas.clientWidth / 2, y: canvas.clientHeight / 2 } });
  const zoom = h("div", { class: "graph-zoom", role: "group", "aria-label": "Size" },
    button("+", () => scale(1.25), { class: "button icon", "aria-label": "Larger" }),
    button("−", () => scale(0.8), { class: "button icon", "aria-label": "Smaller" }),
    button("Fit", () => drawn?.fit(undefined, 28), { class: "button small" }));

  root.append(h("h1", {}, "What hangs together"),
    h("div", { class: "row between" }, h("p", { class: "lead" }, "Facts around a subject. Choose one to ask the model."), view.element),
    form, legend, h("div", { class: "graph-columns" }, place, detail), note);

  form.addEventListener("submit", (event) => { event.preventDefault(); load(); });
  edit.addEventListener("change", () => { held.number = edit.value; save(); load(); });

  function options() {
    const numbers = studio.edits.map((e) => String(e.number));
    if (held.number && !numbers.includes(held.number)) held.number = "";
    replace(edit, h("option", { value: "" }, "none, facts only"), studio.edits.map((e) =>
      h("option", { value: String(e.number) }, `${e.number}: ${named(e)}${e.state === "undone" ? " (undone)" : ""}`)));
    edit.value = held.number;
  }

  function idle() {
    replace(detail, h("h2", {}, "Ask"), h("p", { class: "hint" }, "Choose a line or a point, and the model is asked for it."));
  }

  async function load() {
    const mine = ++asked;
    held.subject = subject.value.trim();
    save();
    if (!held.subject) return subject.focus();
    replace(place, skeleton(8));
    idle();
    try {
      const query = new URLSearchParams({ subject: held.subject });
      if (held.number) query.set("number", held.number);
      const graph = await get(`api/graph?${query}`);
      if (mine !== asked) return;
      found = graph;
      note.textContent = found.note ?? "";
      await draw();
    } catch (error) {
      if (mine === asked) replace(place, trouble(error, load));
    }
  }

  async function draw() {
    drawn?.destroy();
    drawn = null;
    if (!found) return;
    if (!found.edges.length) {
      replace(place, empty("No facts known", found.note || `Nothing is known about “${held.subject}”. Try the name as the model writes it.`));
    } else if (held.list) replace(place, list());
    else {
      replace(place, canvas, zoom);
      await network();
    }
  }

  const label = (id) => found.nodes.find((n) => n.id === id)?.label ?? id;

  function list() {
    const order = ["changed", "leaked", "follow", "stay", "plain"];
    const edges = [...found.edges].sort((a, b) => order.indexOf(a.status) - order.indexOf(b.status));
    return h("ul", { class: "edges" }, edges.map((edge) => h("li", {}, h("button", { type: "button", class: "edge", onclick: () => chosen(edge) },
      h("span", { class: `key key-${edge.status}`, "aria-hidden": "true" }, SIGNS[edge.status]),
      h("span", { class: "edge-text" }, label(edge.source), " ", h("span", { class: "hint" }, relation(edge.relation)), " ", label(edge.target)),
      h("span", { class: "edge-status" }, STATUS[edge.status][0]), answered(edge)))));
  }

  async function network() {
    const { default: cytoscape } = await import("../../vendor/cytoscape/cytoscape.esm.min.mjs");
    if (!canvas.isConnected) return;
    const hub = found.nodes.find((n) => n.kind === "subject")?.id;
    const at = radial(found.nodes, found.edges, hub, Math.max(220, canvas.clientWidth - 170), canvas.clientHeight - 70);
    drawn = cytoscape({
      container: canvas,
      elements: [
        ...found.nodes.map((n) => ({ data: { ...n, side: at[n.id].side }, position: { x: at[n.id].x, y: at[n.id].y } })),
        ...found.edges.map((e) => ({ data: { ...e, relation: relation(e.relation) } })),
      ],
      style: sheet(canvas.clientWidth > NARROW),
      layout: { name: "preset", fit: true, padding: 28 },
      // The wheel scrolls the page; the buttons enlarge.
      userZoomingEnabled: false, minZoom: 0.3, maxZoom: 3, boxSelectionEnabled: false, autounselectify: false,
    });
    drawn.on("tap", "edge", (event) => chosen(found.edges.find((e) => e.id === event.target.id())));
    drawn.on("tap", "node", (event) => {
      const id = event.target.id();
      around(id, found.edges.filter((e) => e.source === id || e.target === id));
    });
  }

  function around(id, edges) {
    if (edges.length === 1) return chosen(edges[0]);
    replace(detail, h("h2", {}, label(id)),
      h("ul", { class: "edges" }, edges.map((edge) => h("li", {}, h("button", { type: "button", class: "edge", onclick: () => chosen(edge) },
        h("span", { class: `key key-${edge.status}`, "aria-hidden": "true" }, SIGNS[edge.status]),
        h("span", { class: "edge-text" }, h("span", { class: "hint" }, relation(edge.relation)), " ", edge.source === id ? label(edge.target) : label(edge.source)))))),
      id !== held.subject ? button(`Draw around ${label(id)}`, () => { subject.value = label(id); load(); }, { class: "button small" }) : null);
  }

  async function chosen(edge) {
    drawn?.$(":selected").unselect();
    drawn?.getElementById(edge.id).select();
    const answers = h("dl", { class: "facts" }, ["base", "edited"].flatMap((state) => [
      h("dt", {}, state === "base" ? "Before any edit" : "Now"), h("dd", { data: { state } }, "…")]));
    replace(detail,
      h("p", { class: "eyebrow" }, h("span", { class: `key key-${edge.status}`, "aria-hidden": "true" }, SIGNS[edge.status]), ` ${STATUS[edge.status].slice(0, 2).join(": ")}`),
      h("h2", {}, edge.prompt),
      answers,
      edge.wanted ? h("p", { class: "hint" }, `It should say: ${edge.wanted}`) : null,
      h("div", { class: "row" },
        h("a", { class: "button small", href: `#/talk?${new URLSearchParams({ prompt: edge.prompt })}` }, "Talk to both"),
        h("a", { class: "button small", href: `#/edit?${new URLSearchParams({ prompt: edge.prompt, subject: label(edge.source) })}` }, "Edit this fact"),
        h("a", { class: "button small", href: `#/inside?${new URLSearchParams({ prompt: edge.prompt, subject: label(edge.source) })}` }, "Look inside")));
    const said = await Promise.all(["base", "edited"].map(async (state) => {
      const cell = answers.querySelector(`[data-state="${state}"]`);
      try {
        cell.textContent = (await answer(state, edge.prompt)) || "(nothing)";
      } catch (error) {
        cell.textContent = error.message;
      }
      return cell.textContent;
    }));
    say(`Before any edit: ${said[0]}. Now: ${said[1]}.`);
  }

  const restyle = () => drawn?.style(sheet(canvas.clientWidth > NARROW));
  document.addEventListener("colours", restyle);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", restyle);
  onchange(() => {
    const before = held.number;
    options();
    if (found && before !== held.number) load();
  });
  options();
  idle();
  return {
    show(params) {
      const wanted = params.get("subject");
      if (wanted) {
        window.history.replaceState(null, "", "#/graph");
        subject.value = wanted;
        held.number = params.get("number") ?? "";
        options();
        load();
      } else if (!found) {
        const entry = last();
        if (entry && !kept.read("graph")) {
          subject.value = entry.edits[0]?.subject ?? held.subject;
          held.number = String(entry.number);
          options();
        }
        load();
      } else drawn?.resize();
    },
  };
}

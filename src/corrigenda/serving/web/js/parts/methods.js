// The choice of a method: three in plain words with the papers' names beneath, and all the others.

import { fresh, h, replace } from "../dom.js";
import { form } from "./form.js";

const PLAIN = [
  ["fast", "Fast", "Done in a moment. For a first look and single facts."],
  ["careful", "Careful", "Takes longer, and holds back more from what it should not touch."],
  ["no_weights", "No weights changed", "The model stays as it is; the correction stands beside it."],
];

/** "Meng et al. 2022" of "Meng et al. 2022, 2202.05262; R-ROME: Gupta et al. 2024". */
const short = (paper) => paper?.split(/[;,]/)[0];

function option(name, editor, title, text, chosen, pick) {
  const input = h("input", { type: "radio", name, value: editor.name, checked: chosen, disabled: !editor.supported });
  input.addEventListener("change", () => pick(editor.name));
  return h("label", { class: `method${editor.supported ? "" : " method-off"}` }, input,
    h("span", { class: "method-body" },
      h("span", { class: "method-title" }, title),
      h("span", { class: "method-text" }, editor.supported ? text : editor.why_not ?? "Not for this model."),
      h("span", { class: "method-paper" }, [editor.title, short(editor.paper)].filter(Boolean).join(" · "))));
}

/** {element, editor, settings()}; onchange when another method or another setting is chosen. */
export function methods({ list, proposed }, chosen, given, onchange) {
  const byName = new Map(list.map((editor) => [editor.name, editor]));
  const names = PLAIN.map(([key]) => proposed[key]).filter((name) => byName.has(name));
  let now = byName.get(chosen)?.supported ? chosen : names.find((n) => byName.get(n).supported) ?? list[0]?.name;
  let settings = given ?? {};
  let fields = null;
  const group = fresh("method");

  const summary = h("summary", {});
  const body = h("div", { class: "disclosed" });
  const details = h("details", { class: "disclosure" }, summary, body);

  function pick(name, values = {}) {
    now = name;
    settings = values;
    for (const input of element.querySelectorAll(`input[name="${group}"]`)) input.checked = input.value === name;
    draw();
    onchange();
  }

  function draw() {
    const editor = byName.get(now);
    fields = form(editor.schema, settings, onchange);
    const changed = Object.keys(settings).length;
    replace(summary, `Settings of ${editor.title}`, changed ? h("span", { class: "hint" }, ` ${changed} set by hand`) : null);
    replace(body, editor.summary ? h("p", { class: "hint" }, editor.summary) : null, fields.element);
  }

  const cards = h("div", { class: "method-cards" }, PLAIN.map(([key, title, text]) => {
    const editor = byName.get(proposed[key]);
    return editor ? option(group, editor, title, text, editor.name === now, pick) : null;
  }));

  const search = h("input", { type: "search", placeholder: "Find by name, paper or idea", "aria-label": "Find a method" });
  const others = list.filter((editor) => !names.includes(editor.name));
  const rows = others.map((editor) => {
    const row = option(group, editor, editor.title, editor.summary, editor.name === now, pick);
    row.querySelector(".method-paper").textContent = [editor.family, editor.paper, editor.speed].filter(Boolean).join(" · ");
    return [row, `${editor.name} ${editor.title} ${editor.paper} ${editor.family} ${editor.summary}`.toLowerCase()];
  });
  const none = h("p", { class: "hint", hidden: true }, "No method of that name. Try fewer letters.");
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    let found = 0;
    for (const [row, text] of rows) {
      row.hidden = !text.includes(wanted);
      found += row.hidden ? 0 : 1;
    }
    none.hidden = found > 0;
  });
  const more = h("details", { class: "disclosure", open: !names.includes(now) },
    h("summary", {}, "Other methods", h("span", { class: "hint" }, ` ${others.length}`)),
    h("div", { class: "disclosed" }, search, none, h("div", { class: "method-list" }, rows.map(([row]) => row))));

  const element = h("div", { class: "methods", role: "radiogroup", "aria-label": "Method" }, cards, more, details);
  draw();
  return {
    element,
    get editor() { return now; },
    pick,
    /** Opens the settings, so that what was proposed there is seen. */
    reveal() { details.open = true; },
    settings: () => (settings = fields.values()),
    schema: () => byName.get(now)?.schema,
  };
}

// Look inside: where a fact is recalled (causal trace), what each layer would say (lens), which neurons fire.

import { post } from "../api.js";
import { button, choice, empty, field, h, replace, settled, skeleton, trouble } from "../dom.js";
import { number, probability, token } from "../format.js";
import { roving } from "../parts/grid.js";
import { BELOW, DARK, heatmap, numbers } from "../parts/heatmap.js";
import { run } from "../parts/job.js";
import { kept, onchange, studio } from "../studio.js";

const KINDS = { hidden: "Hidden states", mlp: "MLP", attention: "Attention" };
const TOOLS = [["trace", "Causal trace"], ["lens", "Logit lens"], ["neurons", "Neurons"]];
const LEADS = {
  trace: "The subject is blurred with noise, then one state at a time is given back. Strong cells bring the answer back: there the fact is recalled.",
  lens: "What the model would say if it stopped after each layer. Choose a cell to edit there.",
  neurons: "The neurons of one layer that fire most at the last token, and the words each of them promotes.",
};

/** Where this page goes when an edit is proposed here. */
function proposal(prompt, subject, layer, target = "") {
  const query = new URLSearchParams({ prompt, subject });
  if (layer !== null) query.set("layer", String(layer));
  if (target) query.set("target", target);
  return `#/edit?${query}`;
}

export function mount(root) {
  const draft = kept.read("draft") ?? {};
  const held = {
    prompt: draft.prompt || "The Eiffel Tower is located in the city of",
    subject: draft.subject || "Eiffel Tower", state: "edited", tool: "trace", layer: 0, table: false, ...kept.read("inside"),
  };
  const save = () => kept.write("inside", held);
  const found = { trace: null, lens: null, neurons: null };

  const prompt = h("input", { type: "text", value: held.prompt, autocomplete: "off", spellcheck: "false" });
  const subject = h("input", { type: "text", value: held.subject, autocomplete: "off", spellcheck: "false" });
  const state = h("select", {});
  const layer = h("select", {});
  const lead = h("p", { class: "lead" });
  const out = h("div", { class: "inside-out" });
  const go = h("button", { class: "button primary", id: "look" }, "Look");
  const tool = choice("What to look at", TOOLS, held.tool, (value) => {
    held.tool = value;
    save();
    draw();
    if (value !== "trace" && !found[value]) look(); // one pass each; a trace is many
  });
  const table = h("input", { type: "checkbox", checked: held.table, id: "as-table" });
  table.addEventListener("change", () => { held.table = table.checked; save(); draw(); });
  const layerField = field("Layer", layer);
  const subjectField = field("Subject", subject);

  const forget = () => { Object.assign(found, { trace: null, lens: null, neurons: null }); };
  prompt.addEventListener("input", settled(async () => {
    try {
      const guess = await post("api/guess", { text: prompt.value });
      if (guess.subject && prompt.value.includes(guess.subject)) {
        subject.value = guess.subject;
        held.subject = guess.subject;
        save();
      }
    } catch {
      // Only a convenience; the field is there.
    }
  }, 300));
  for (const [control, key] of [[prompt, "prompt"], [subject, "subject"], [state, "state"]]) {
    control.addEventListener("input", () => { held[key] = control.value; forget(); save(); });
  }
  layer.addEventListener("change", () => { held.layer = Number(layer.value); found.neurons = null; save(); look(); });

  const form = h("form", { class: "inside-form card" },
    h("div", { class: "inside-fields" }, field("Prompt", prompt), subjectField, field("State", state), layerField),
    h("div", { class: "row" }, go));
  form.addEventListener("submit", (event) => { event.preventDefault(); look(); });

  root.append(h("h1", {}, "Look inside"),
    h("div", { class: "row between" }, tool.element, h("label", { class: "check", for: "as-table" }, table, " As a table")),
    lead, form, out);

  function options() {
    const states = studio.status?.states ?? ["base", "edited"];
    if (!states.includes(held.state)) held.state = "edited";
    replace(state, states.map((s) => h("option", { value: s, selected: s === held.state }, s)));
    state.value = held.state;
    const count = studio.status?.layers ?? 1;
    held.layer = Math.min(held.layer, count - 1);
    replace(layer, Array.from({ length: count }, (_, i) => h("option", { value: String(i), selected: i === held.layer }, String(i))));
  }

  const ask = () => ({ prompt: prompt.value.trim(), state: held.state });

  async function look() {
    if (!prompt.value.trim()) return prompt.focus();
    const { tool: mine } = held;
    go.disabled = true;
    replace(out, skeleton(8));
    try {
      if (mine === "trace") {
        const { job } = await post("api/trace", { ...ask(), subject: subject.value.trim() });
        found.trace = await run(out, job, "Tracing");
      } else if (mine === "lens") found.lens = await post("api/lens", { ...ask(), top: 5 });
      else found.neurons = await post("api/neurons", { ...ask(), layer: held.layer, top: 12 });
      if (mine === held.tool) draw();
    } catch (error) {
      if (mine === held.tool) replace(out, trouble(error, look));
    } finally {
      go.disabled = false;
    }
  }

  function draw() {
    lead.textContent = LEADS[held.tool];
    layerField.hidden = held.tool !== "neurons";
    subjectField.hidden = held.tool === "neurons";
    const result = found[held.tool];
    if (!result) {
      const texts = {
        trace: "A trace runs the model once per token, layer and kind. Small models take a second or two.",
        lens: "One pass of the model.", neurons: "One pass of the model.",
      };
      replace(out, empty("Not looked yet", texts[held.tool]));
    } else replace(out, { trace: traced, lens: lensed, neurons: fired }[held.tool](result));
  }

  function traced(result) {
    const marked = new Set(result.subject_tokens);
    const detail = h("div", { class: "detail", "aria-live": "polite" },
      h("p", { class: "hint" }, "Choose a cell: click, or arrow keys and Enter."));
    const kinds = Object.keys(result.kinds);
    const all = kinds.flatMap((k) => result.kinds[k].flat()).filter((v) => v !== null);
    const lost = result.clean - result.corrupted;
    const high = Math.max(lost, ...all, 0.001);
    const maps = kinds.map((kind) => {
      const map = { title: KINDS[kind] ?? kind, tokens: result.tokens, layers: result.layers, values: result.kinds[kind], marked };
      if (held.table) return numbers(map);
      return heatmap({ ...map, low: 0, high, onpick(t, l, value) {
        const part = lost > 0 ? `, ${Math.round((100 * value) / lost)} % of what the noise took.` : ".";
        replace(detail,
          h("p", {}, h("strong", {}, `${map.title}, layer ${l}, after “${token(result.tokens[t])}”: `),
            `“${result.answer.trim()}” becomes ${probability(Math.abs(value))} ${value < 0 ? "less likely" : "likelier"}${value < 0 ? "." : part}`),
          h("div", { class: "row" },
            h("a", { class: "button small", href: proposal(held.prompt, held.subject, l) }, `Edit at layer ${l}`),
            button(`Neurons of layer ${l}`, () => {
              held.layer = l;
              held.tool = "neurons";
              tool.value = "neurons";
              save();
              options();
              look();
            }, { class: "button small" })));
      } });
    });
    return [
      h("dl", { class: "facts wide" },
        h("dt", {}, "Answer"), h("dd", {}, result.answer.trim()),
        h("dt", {}, "Its probability"), h("dd", {}, probability(result.clean)),
        h("dt", {}, "With noise"), h("dd", {}, probability(result.corrupted))),
      held.table ? null : h("p", { class: "scale", "aria-hidden": "true" },
        h("span", {}, "0"), h("span", { class: "scale-bar" }), h("span", {}, `+${probability(high)}`),
        h("span", { class: "hint" }, "how much likelier the answer becomes"),
        all.some((v) => v < BELOW) ? [h("span", { class: "scale-below heat-below" }), h("span", { class: "hint" }, "less likely")] : null),
      h("div", { class: "maps" }, maps), held.table ? null : detail,
    ];
  }

  function lensed(result) {
    if (held.table) {
      return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Logit lens" }, h("table", { class: "numbers" },
        h("thead", {}, h("tr", {}, ["after", "layer", "most probable"].map((t) => h("th", { scope: "col", class: t === "most probable" ? "left" : null }, t)))),
        h("tbody", {}, result.tokens.flatMap((text, t) => result.layers.map((l, i) => h("tr", {},
          h("th", { scope: "row" }, token(text)), h("td", {}, String(l)),
          h("td", { class: "left" }, result.cells[t][i].map((c) => `${token(c.token)} ${probability(c.p)}`).join(", "))))))));
    }
    const rows = [];
    const body = result.tokens.map((text, t) => {
      const cells = result.layers.map((l, i) => {
        const top = result.cells[t][i];
        const [best] = top;
        const link = h("a", {
          class: `lens-cell${best.p > DARK ? " heat-dark" : ""}`, vars: { share: best.p.toFixed(3) },
          href: proposal(held.prompt, held.subject, l),
          title: top.map((c) => `${token(c.token)} ${probability(c.p)}`).join("\n"),
          "aria-label": `after ${token(text)}, layer ${l}: ${token(best.token)}, ${probability(best.p)}. Edit here.`,
        }, token(best.token));
        return link;
      });
      rows.push(cells);
      return h("tr", { role: "row" }, h("th", { role: "rowheader", class: "heat-token" }, token(text)),
        cells.map((cell) => h("td", { role: "gridcell" }, cell)));
    });
    const grid = h("table", { role: "grid", class: "lens", vars: { layers: String(result.layers.length) }, "aria-label": "Logit lens: tokens by layers" },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, h("th", { role: "columnheader" }, h("span", { class: "unseen" }, "token")),
        result.layers.map((l) => h("th", { role: "columnheader", class: "heat-layer" }, String(l))))),
      h("tbody", { role: "rowgroup" }, body));
    roving(grid, rows);
    return h("div", { class: "scroll" }, grid);
  }

  function fired(result) {
    const most = Math.max(...result.neurons.map((n) => Math.abs(n.activation)), 1e-9);
    if (held.table) {
      return h("table", { class: "numbers" },
        h("thead", {}, h("tr", {}, ["neuron", "activation", "promotes"].map((t) => h("th", { scope: "col", class: t === "promotes" ? "left" : null }, t)))),
        h("tbody", {}, result.neurons.map((n) => h("tr", {}, h("th", { scope: "row" }, String(n.index)),
          h("td", {}, number(n.activation)), h("td", { class: "left" }, n.promotes.map(token).join(", "))))));
    }
    return [
      h("ul", { class: "neurons" }, result.neurons.map((n) => h("li", {},
        h("span", { class: "neuron-index" }, `#${n.index}`),
        h("span", { class: `neuron-bar${n.activation < 0 ? " neuron-negative" : ""}`, vars: { share: (Math.abs(n.activation) / most).toFixed(3) } }),
        h("span", { class: "neuron-value" }, number(n.activation)),
        h("span", { class: "neuron-words" }, n.promotes.map((word) => h("span", { class: "word" }, token(word))))))),
      h("div", { class: "row" }, h("a", { class: "button small", href: proposal(held.prompt, held.subject, result.layer) }, `Edit at layer ${result.layer}`)),
    ];
  }

  onchange(() => { options(); });
  options();
  draw();
  return {
    show(params) {
      const asked = params.get("prompt");
      if (!asked) return;
      history.replaceState(null, "", "#/inside");
      prompt.value = held.prompt = asked;
      subject.value = held.subject = params.get("subject") ?? held.subject;
      forget();
      save();
      look();
    },
  };
}

// Ledger: every edit, what became of it, and everything that can be done with it.

import { download, get, post, remove } from "../api.js";
import { button, empty, field, h, replace, say, skeleton, trouble } from "../dom.js";
import { bytes, number, plural, seconds, when } from "../format.js";
import { sign } from "../parts/answers.js";
import { scorecard } from "../parts/scorecard.js";
import { toast } from "../parts/toast.js";
import { active, named, onchange, redo, refresh, studio, undo } from "../studio.js";

const FORMATS = {
  delta: ["Delta", "Corrigenda's own form, with provenance"],
  peft: ["LoRA adapter", "for PEFT and vLLM"],
  merged: ["Merged checkpoint", "the whole model with the edits in it"],
  gguf: ["GGUF", "for llama.cpp"],
};
const SHOWN = 10; // undone edits, until more are asked for
const AXES = { efficacy: "took", generalization: "wordings", portability: "consequences", locality: "stayed" };

export function mount(root) {
  let all = false; // undone edits too, where they are many
  const chosen = new Set();
  const opened = new Map();
  const rows = h("ol", { class: "entries" });
  const bar = h("div", { class: "card selection", hidden: true });
  const difference = h("div", { class: "difference" });
  const sets = h("div", { class: "sets" });
  const exports = h("div", { class: "exports" });

  root.append(h("h1", {}, "Ledger"),
    h("p", { class: "lead" }, "Every edit that was made; those that hold, in the order in which they are applied. Undo restores the model bit for bit."),
    bar, difference, rows,
    h("div", { class: "ledger-lower" },
      h("section", { class: "step" }, h("h2", {}, "Named sets"), sets),
      h("section", { class: "step" }, h("h2", {}, "Export"), exports)));

  const attempt = (act, done = null) => async (event) => {
    const trigger = event?.currentTarget;
    if (trigger) trigger.disabled = true;
    try {
      await act();
      if (done) {
        toast(done);
        say(done);
      }
    } catch (error) {
      toast(error.message);
    } finally {
      if (trigger) trigger.disabled = false;
    }
  };

  // ---- entries

  async function move(entry, by) {
    const order = active().map((e) => e.number);
    const at = order.indexOf(entry.number);
    order.splice(at, 1);
    order.splice(at + by, 0, entry.number);
    await post("api/edits/order", { numbers: order });
    await refresh();
    say(`Edit ${entry.number} is now at place ${at + by + 1} of ${order.length}.`);
    rows.querySelector(`[data-number="${entry.number}"] .move-${by < 0 ? "up" : "down"}:not(:disabled)`)?.focus();
  }

  function scores(card) {
    if (!card) return h("span", { class: "hint" }, "not measured");
    return h("dl", { class: "scores" }, Object.entries(AXES).filter(([axis]) => card.summary[axis]?.asked).map(([axis, name]) =>
      h("div", {}, h("dt", {}, name), h("dd", {}, `${card.summary[axis].passed}/${card.summary[axis].asked}`))));
  }

  function row(entry, place, count) {
    const readOnly = studio.status?.read_only;
    const live = entry.state === "active";
    const box = h("input", { type: "checkbox", checked: chosen.has(entry.number), "aria-label": `Choose edit ${entry.number}` });
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(entry.number);
      else chosen.delete(entry.number);
      selection();
    });
    const body = h("div", { class: "entry-body" });
    const details = h("details", { class: "entry-details", open: opened.has(entry.number) },
      h("summary", {}, "Details", h("span", { class: "unseen" }, ` of edit ${entry.number}`)), body);
    const show = async () => {
      if (!details.open) return opened.delete(entry.number);
      if (opened.get(entry.number)) return replace(body, full(opened.get(entry.number)));
      replace(body, skeleton(4));
      try {
        const all = await get(`api/edits/${entry.number}`);
        opened.set(entry.number, all);
        replace(body, full(all));
      } catch (error) {
        replace(body, trouble(error, show));
      }
    };
    details.addEventListener("toggle", show);
    const norm = (entry.norms ?? []).reduce((a, n) => Math.max(a, n.norm ?? 0), 0);
    return h("li", { class: `entry${live ? "" : " entry-undone"}`, data: { number: String(entry.number) } },
      h("div", { class: "entry-head" },
        box,
        h("span", { class: "entry-number" }, String(entry.number)),
        h("div", { class: "entry-main" },
          h("p", { class: "entry-name" }, sign((entry.took ?? []).every((t) => t === null) ? null : entry.took.every(Boolean)), " ", named(entry), live ? null : h("span", { class: "tag" }, "undone")),
          h("p", { class: "entry-facts" }, [entry.title ?? entry.editor, when(entry.when), entry.who && `by ${entry.who}`, norm ? `norm ${number(norm)}` : null].filter(Boolean).join(" · ")),
          entry.note ? h("p", { class: "entry-note" }, entry.note) : null,
          entry.undone_note ? h("p", { class: "entry-note" }, `Undone: ${entry.undone_note}`) : null),
        scores(entry.scorecard),
        readOnly ? h("span", {}) : h("div", { class: "entry-acts" },
          live && count > 1 ? [
            button("↑", attempt(() => move(entry, -1)), { class: "button quiet icon move-up", disabled: place === 0, "aria-label": `Apply edit ${entry.number} earlier` }),
            button("↓", attempt(() => move(entry, 1)), { class: "button quiet icon move-down", disabled: place === count - 1, "aria-label": `Apply edit ${entry.number} later` }),
          ] : null,
          live ? button("Undo", attempt(() => undo(entry.number), `Undone, bit for bit: ${named(entry)}.`), { class: "button small", "aria-label": `Undo edit ${entry.number}` })
            : button("Redo", attempt(() => redo(entry.number), `Made again: ${named(entry)}.`), { class: "button small", "aria-label": `Redo edit ${entry.number}` }))),
      details);
  }

  function full(entry) {
    return [
      h("dl", { class: "facts" },
        entry.edits.flatMap((e, i) => [h("dt", {}, "Asked"), h("dd", {}, e.prompt.replace("{}", e.subject), " ", h("ins", {}, e.target), entry.answers?.[i] ? h("span", { class: "hint" }, ` says “${entry.answers[i].trim()}”`) : null)]),
        h("dt", {}, "Method"), h("dd", {}, entry.title ?? entry.editor),
        h("dt", {}, "When"), h("dd", {}, new Date(entry.when).toLocaleString()),
        h("dt", {}, "Took"), h("dd", {}, seconds(entry.seconds)),
        h("dt", {}, "On disk"), h("dd", {}, bytes(entry.bytes)),
        h("dt", {}, "Id"), h("dd", {}, h("code", { class: "wrap" }, entry.id)),
        entry.undone_when ? [h("dt", {}, "Undone"), h("dd", {}, new Date(entry.undone_when).toLocaleString())] : null),
      entry.norms?.length ? h("div", { class: "scroll" }, h("table", { class: "numbers" },
        h("thead", {}, h("tr", {}, ["place", "kind", "norm", "relative"].map((t) => h("th", { scope: "col", class: t === "kind" ? "left" : null }, t)))),
        h("tbody", {}, entry.norms.map((n) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, n.place)), h("td", { class: "left" }, n.kind), h("td", {}, number(n.norm)), h("td", {}, number(n.relative))))))) : null,
      entry.scorecard ? h("details", { class: "disclosure" }, h("summary", {}, "Scorecard"), h("div", { class: "disclosed" }, scorecard(entry.scorecard))) : null,
      entry.provenance ? h("details", { class: "disclosure" }, h("summary", {}, "Provenance"), h("div", { class: "disclosed" }, h("pre", { tabindex: "0" }, JSON.stringify(entry.provenance, null, 2)))) : null,
      entry.card ? h("details", { class: "disclosure" }, h("summary", {}, "Card"), h("div", { class: "disclosed" }, h("pre", { tabindex: "0", class: "wrap" }, entry.card))) : null,
    ];
  }

  // ---- what is done with those that are chosen

  function selection() {
    const numbers = studio.edits.map((e) => e.number).filter((n) => chosen.has(n));
    bar.hidden = !numbers.length;
    if (!numbers.length) return;
    const name = h("input", { type: "text", required: true, maxlength: "64", pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*", placeholder: "capitals-v2", autocomplete: "off" });
    const form = h("form", { class: "row tight" }, field("Name of a set", name), h("button", { class: "button small" }, "Save as a set"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      attempt(async () => {
        await post("api/sets", { name: name.value.trim(), numbers });
        chosen.clear();
        await refresh();
        selection();
      }, `Saved as “${name.value.trim()}”. Talk and Look inside offer it now.`)();
    });
    replace(bar, h("p", {}, h("strong", {}, plural(numbers.length, "edit")), ` chosen: ${numbers.join(", ")}`),
      h("div", { class: "row" },
        numbers.length === 2 ? button("Compare the two", () => compare(...numbers), { class: "button small", id: "compare" }) : null,
        form,
        button("Choose none", () => { chosen.clear(); selection(); draw(); }, { class: "button small text" })));
  }

  async function compare(a, b) {
    replace(difference, skeleton(3));
    try {
      const found = await get(`api/edits/diff?a=${a}&b=${b}`);
      replace(difference, h("div", { class: "card" },
        h("div", { class: "row between" }, h("h2", {}, `Edits ${a} and ${b}`), button("Close", () => replace(difference), { class: "button small" })),
        found.places.length ? h("div", { class: "scroll" }, h("table", { class: "numbers" },
          h("thead", {}, h("tr", {}, ["place", "cosine", `norm of ${a}`, `norm of ${b}`, "overlap"].map((t) => h("th", { scope: "col" }, t)))),
          h("tbody", {}, found.places.map((p) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, p.place)),
            [p.cosine, p.norm_a, p.norm_b, p.overlap].map((v) => h("td", {}, number(v))))))))
          : h("p", {}, "They touch no place in common."),
        h("p", { class: "hint" }, "Cosine 0: they do not see each other. Overlap: the share of the directions that both use.")));
    } catch (error) {
      replace(difference, trouble(error, () => compare(a, b)));
    }
  }

  function listSets() {
    replace(sets, studio.sets.length
      ? h("ul", { class: "plain" }, studio.sets.map((set) => h("li", { class: "row between line" },
        h("span", {}, h("strong", {}, set.name), h("span", { class: "hint" }, ` edits ${set.numbers.join(", ")}`)),
        button("Remove", attempt(async () => { await remove(`api/sets/${encodeURIComponent(set.name)}`); await refresh(); }, `The set “${set.name}” is gone; its edits are not.`),
          { class: "button small text", "aria-label": `Remove the set ${set.name}` }))))
      : h("p", { class: "hint" }, "A set is a name for some edits, such as those of a release. Choose edits above to make one; it can then be talked to beside the others."));
  }

  const copier = (command, name) => button("Copy command", async (event) => {
    const trigger = event.currentTarget;
    try {
      await navigator.clipboard.writeText(command);
      trigger.textContent = "Copied";
    } catch {
      trigger.textContent = "Select it below";
    }
    setTimeout(() => { trigger.textContent = "Copy command"; }, 2500);
  }, { class: "button small text", "aria-label": `Copy the command: ${name}` });

  async function listExports() {
    if (!exports.childElementCount) replace(exports, skeleton(4));
    try {
      const formats = await get("api/edits/export");
      replace(exports, h("ul", { class: "plain" }, formats.map((format) => {
        const [name, text] = FORMATS[format.format] ?? [format.format, ""];
        return h("li", { class: "export" },
          h("div", { class: "row between" },
            h("span", {}, h("strong", {}, name), h("span", { class: "hint" }, ` ${text}`)),
            h("span", { class: "row tight" }, format.command ? copier(format.command, name) : null,
              format.possible ? button("Download", attempt(async () => {
                const numbers = [...chosen].join(",");
                await download(`api/edits/export/${format.format}${numbers ? `?numbers=${numbers}` : ""}`, `corrigenda-${format.format}.zip`);
              }), { class: "button small", "aria-label": `Download: ${name}` }) : null)),
          format.possible ? null : h("p", { class: "hint" }, `Not possible now: ${format.why_not ?? "the server does not say why."}`),
          format.command ? h("pre", { tabindex: "0" }, format.command) : null);
      })));
    } catch (error) {
      replace(exports, trouble(error, listExports));
    }
  }

  function draw() {
    const live = active();
    for (const n of chosen) if (!studio.edits.some((e) => e.number === n)) chosen.delete(n);
    if (!studio.status) return replace(rows, skeleton(6));
    if (!studio.edits.length) {
      replace(rows, h("li", {}, empty("No edits yet", "Every edit that is applied is written here, with what it did, and can be taken back.",
        h("a", { class: "button", href: "#/edit" }, "Make the first one"))));
    } else {
      const gone = studio.edits.filter((entry) => entry.state !== "active");
      replace(rows, live.map((entry, place) => row(entry, place, live.length)),
        gone.length ? h("li", { class: "entries-split" }, h("h2", {}, "Undone")) : null,
        gone.slice(0, all ? gone.length : SHOWN).map((entry) => row(entry, -1, 0)),
        gone.length > SHOWN && !all ? h("li", { class: "entries-more" }, button(`Show all ${gone.length}`, () => { all = true; draw(); }, { class: "button small" })) : null);
    }
    selection();
    listSets();
  }

  onchange(() => { for (const n of opened.keys()) opened.set(n, null); draw(); if (!root.hidden) listExports(); });
  draw();
  return { show: () => { listExports(); } };
}

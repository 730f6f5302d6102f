// Edit: a sentence, a method, the plan, a preview or the edit itself, and its scorecard.

import { get, post, remove } from "../api.js";
import { button, field, h, replace, say, settled, skeleton, trouble } from "../dom.js";
import { seconds } from "../format.js";
import { change, sign } from "../parts/answers.js";
import { run } from "../parts/job.js";
import { methods as chooser } from "../parts/methods.js";
import { plan as planner } from "../parts/plan.js";
import { scorecard } from "../parts/scorecard.js";
import { located, promptOf, sentence } from "../parts/sentence.js";
import { toast } from "../parts/toast.js";
import { answer, kept, methods, named, onchange, refresh, studio, undo } from "../studio.js";

const EXAMPLES = [
  "The Eiffel Tower is located in the city of Rome.",
  "The capital of Japan is Lima.",
  "The mother tongue of Charles Dickens is Spanish.",
];

export function mount(root) {
  const draft = {
    text: "", subject: "", target: "", prompt: "", now: null, byHand: {}, editor: null, settings: {},
    who: "", note: "", ...kept.read("draft"),
  };
  const save = () => kept.write("draft", draft);
  let method = null;
  let busy = false;
  let asked = 0;

  const text = sentence({ ontext: typed, onmark: marked });
  const reading = h("div", { class: "reading", "aria-live": "polite" });
  const methodPlace = h("div", { class: "method-place" }, skeleton(6));
  const planPlace = h("div", { class: "plan-body" });
  const plan = planner(planPlace, () => studio.status?.layers ?? 0);
  const preview = button("Preview", () => start(false), { id: "preview", title: "Ctrl + Enter" });
  const apply = button("Apply", () => start(true), { class: "button primary", id: "apply" });
  const who = h("input", { type: "text", autocomplete: "name", value: draft.who });
  const note = h("input", { type: "text", autocomplete: "off", value: draft.note });
  for (const [input, key] of [[who, "who"], [note, "note"]]) {
    input.addEventListener("input", () => { draft[key] = input.value; save(); });
  }
  const message = h("p", { class: "hint act-note", "aria-live": "polite" });
  const progress = h("div", { class: "progress" });
  const result = h("section", { class: "result", id: "result", "aria-label": "Result", tabindex: "-1" });

  root.append(
    h("h1", {}, "Correct what the model says"),
    h("div", { class: "columns" },
      h("div", { class: "column-main" },
        text.element, reading,
        h("section", { class: "step", "aria-label": "Method" }, h("h2", {}, "Method"), methodPlace)),
      h("aside", { class: "column-side", "aria-label": "Plan" },
        h("div", { class: "card plan" },
          h("h2", {}, "Before it runs"), planPlace,
          h("details", { class: "disclosure" }, h("summary", {}, "Who and why"),
            h("div", { class: "disclosed" }, field("Who", who), field("Why", note, "Both are written into the ledger."))),
          h("div", { class: "row act" }, preview, apply), message, progress))),
    result);

  // ---- the sentence

  const edit = () => ({ prompt: draft.prompt, subject: draft.subject, target: draft.target });
  const ready = () => Boolean(draft.prompt && draft.subject && draft.target && method);

  function read() {
    if (!draft.text.trim()) {
      replace(reading, h("div", { class: "row tight examples" }, h("span", { class: "hint" }, "For example"),
        EXAMPLES.map((example) => button(example, () => use(example), { class: "button small text" }))));
    } else if (!draft.subject || !draft.target) {
      const missing = !draft.target ? "the new answer (object)" : "the subject";
      replace(reading, h("p", { class: "reading-open" }, `Not found: ${missing}. Select it in the sentence and mark it.`));
    } else {
      const cell = (name, value, kind = "") => h("div", { class: `reading-cell ${kind}` }, h("dt", {}, name), h("dd", {}, value));
      replace(reading, h("dl", { class: "reading-cells" },
        cell("Subject", draft.subject),
        cell("Asked", draft.prompt, "wide"),
        cell("Says now", draft.now === null ? "…" : draft.now || "(nothing)"),
        cell("Should say", draft.target, "strong")));
    }
    preview.disabled = busy || !ready();
    apply.disabled = busy || !ready() || Boolean(studio.status?.read_only);
    message.textContent = studio.status?.read_only ? "This server is read only: previews work, edits do not." : "";
  }

  const guess = settled(async () => {
    const mine = ++asked;
    const given = draft.text;
    if (!given.trim()) return;
    try {
      const found = await post("api/guess", { text: given });
      if (mine !== asked) return;
      draft.subject = draft.byHand.subject ?? found.subject ?? "";
      draft.target = draft.byHand.target ?? found.target ?? "";
      draft.now = found.now ?? null;
      const marks = located(given, draft);
      text.mark(marks);
      draft.prompt = draft.byHand.target ? promptOf(given, marks) : found.prompt || promptOf(given, marks);
      save();
      read();
      replan();
    } catch (error) {
      if (mine === asked && error.name !== "AbortError") replace(reading, trouble(error, guess));
    }
  }, 250);

  function typed(value) {
    const byHand = Object.fromEntries(Object.entries(draft.byHand).filter(([, words]) => value.includes(words)));
    Object.assign(draft, { text: value, byHand, subject: byHand.subject ?? "", target: byHand.target ?? "", now: null });
    save();
    if (!value.trim()) {
      asked += 1;
      plan.idle();
      read();
    }
    guess();
  }

  function marked(role, words, marks) {
    draft.byHand[role] = words;
    draft[role] = words;
    draft.prompt = promptOf(draft.text, marks) || draft.prompt;
    draft.now = null;
    save();
    read();
    replan();
    current();
  }

  // The answer of now belongs to the prompt, which another mark changes.
  async function current() {
    const { prompt } = draft;
    if (!prompt) return;
    try {
      const now = await answer("edited", prompt);
      if (prompt !== draft.prompt) return;
      draft.now = now;
      save();
      read();
    } catch {
      draft.now = "";
      read();
    }
  }

  function use(example) {
    text.set(example, {});
    draft.byHand = {};
    typed(example);
    text.input.focus();
  }

  // ---- the plan

  const replan = settled(async () => {
    read();
    if (!ready()) return plan.idle();
    const mine = JSON.stringify(edit());
    plan.waiting();
    try {
      const found = await post("api/plan", { edits: [edit()], editor: method.editor, settings: method.settings() });
      if (mine === JSON.stringify(edit())) plan.show(found);
    } catch (error) {
      if (mine === JSON.stringify(edit())) plan.failed(error);
    }
  }, 200);

  async function load() {
    try {
      const found = await methods();
      method = chooser(found, draft.editor, draft.settings, () => {
        draft.editor = method.editor;
        try {
          draft.settings = method.settings();
        } catch {
          return; // the field says what is wrong
        }
        save();
        replan();
      });
      replace(methodPlace, method.element);
      draft.editor = method.editor;
      read();
      if (ready()) replan();
    } catch (error) {
      replace(methodPlace, trouble(error, load));
    }
  }

  // ---- running it

  async function start(applied) {
    if (busy || !ready()) return;
    let settings;
    try {
      settings = method.settings();
    } catch (error) {
      method.reveal();
      return say(error.message);
    }
    await working(async () => {
      const { job } = await post("api/edits", {
        edits: [edit()], editor: method.editor, settings, apply: applied,
        ...(draft.who && { who: draft.who }), ...(draft.note && { note: draft.note }),
      });
      kept.write("result", { job, wanted: applied });
      await attend(job, applied);
    }, () => start(applied));
  }

  async function working(act, again) {
    busy = true;
    read();
    try {
      await act();
    } catch (error) {
      kept.write("result", null);
      replace(result, trouble(error, again));
    } finally {
      busy = false;
      replace(progress);
      read();
    }
  }

  async function attend(job, wanted) {
    replace(result);
    progress.scrollIntoView({ block: "nearest" });
    const found = await run(progress, job, wanted ? "Editing" : "Previewing");
    if (!found) {
      kept.write("result", null);
      return replace(result, h("p", { class: "note" }, "Cancelled. Nothing was changed."));
    }
    if (found.edit) {
      kept.write("result", { number: found.edit.number });
      await refresh();
      applied(found.edit, found.scorecard);
    } else previewed(found, wanted);
    result.scrollIntoView({ block: "start", behavior: "smooth" });
    result.focus({ preventScroll: true });
  }

  const verdict = (took) => {
    const all = took ?? [];
    if (all.every((t) => t === null || t === undefined)) return [null, "Whether it took was not judged."];
    return all.every(Boolean) ? [true, "It took."] : [false, "It did not take."];
  };

  function headline(title, found, card) {
    const [passed, words] = verdict(found.took);
    const [said] = found.answers ?? [];
    const probe = card?.groups?.find((g) => g.axis === "efficacy")?.probes?.[0];
    return [
      h("p", { class: "eyebrow" }, title),
      h("h2", { class: "verdict" }, sign(passed), words),
      probe ? h("p", { class: "verdict-line" }, probe.prompt, " ", change(probe.before, probe.after))
        : said !== undefined ? h("p", { class: "verdict-line" }, edit().prompt, " ", h("ins", {}, String(said).trim())) : null,
    ];
  }

  // wanted: it was to be applied at once; the server holds back what did not take.
  function previewed(found, wanted = false) {
    const keep = button(wanted ? "Apply it anyway" : "Apply this", async () => {
      keep.disabled = true;
      try {
        const entry = await post(`api/edits/preview/${encodeURIComponent(found.preview_id)}/apply`, {});
        kept.write("result", { number: entry.number });
        await refresh();
        applied(entry, entry.scorecard ?? found.scorecard);
        say(`Applied as edit ${entry.number}.`);
      } catch (error) {
        keep.disabled = false;
        toast(error.message);
      }
    }, { class: "button primary" });
    const drop = button("Discard", async () => {
      await remove(`api/edits/preview/${encodeURIComponent(found.preview_id)}`).catch(() => {});
      kept.write("result", null);
      replace(result);
      text.input.focus();
    });
    replace(result, headline("Preview, not applied", found, found.scorecard),
      wanted ? h("p", { class: "note" }, "So it was not applied. Try another method or other settings, or apply it as it is.") : null,
      h("div", { class: "row" }, studio.status?.read_only ? null : keep, drop),
      found.scorecard ? scorecard(found.scorecard) : null);
  }

  function applied(entry, card) {
    const undone = entry.state === "undone";
    const subject = entry.edits[0]?.subject ?? "";
    replace(result,
      headline(`Edit ${entry.number} · ${entry.title ?? entry.editor}${entry.seconds ? ` · ${seconds(entry.seconds)}` : ""}${undone ? " · undone" : ""}`, entry, card),
      undone ? h("p", { class: "note" }, "This edit is undone; the model is as it was, bit for bit.") : null,
      h("div", { class: "row" },
        undone ? null : button("Undo this edit", async (event) => {
          event.target.disabled = true;
          try {
            await undo(entry.number);
            toast(`Undone, bit for bit: ${named(entry)}.`);
          } catch (error) {
            toast(error.message);
          }
        }),
        h("a", { class: "button text", href: "#/talk" }, "Talk to both"),
        h("a", { class: "button text", href: `#/graph?subject=${encodeURIComponent(subject)}&number=${entry.number}` }, "See the graph")),
      card ? scorecard(card) : measure(entry));
  }

  // An edit that was made elsewhere has no scorecard yet.
  function measure(entry) {
    const place = h("div", {});
    const go = button("Measure what else changed", async () => {
      try {
        const { job } = await post("api/evaluate", { number: entry.number });
        const card = await run(place, job, "Measuring");
        if (card) replace(place, scorecard(card));
        else replace(place, go);
      } catch (error) {
        replace(place, trouble(error));
      }
    });
    place.append(go);
    return place;
  }

  async function resume() {
    const held = kept.read("result");
    if (!held) return;
    try {
      if (held.number !== undefined) {
        const entry = await get(`api/edits/${held.number}`);
        applied(entry, entry.scorecard);
      } else {
        const job = await get(`api/jobs/${encodeURIComponent(held.job)}`);
        if (job.state === "queued" || job.state === "running") await working(() => attend(held.job, held.wanted));
        else if (job.state === "done" && job.result?.preview_id) previewed(job.result, held.wanted);
        else kept.write("result", null);
      }
    } catch {
      kept.write("result", null);
    }
  }

  // ---- what others ask of this view

  /** Another view proposes an edit: a prompt, its subject, a layer. */
  function propose(params) {
    const prompt = params.get("prompt");
    if (!prompt) return;
    const target = params.get("target") ?? "";
    const subject = params.get("subject") ?? "";
    const layer = params.get("layer");
    history.replaceState(null, "", "#/edit");
    const line = target ? `${prompt} ${target}` : `${prompt} `;
    Object.assign(draft, { text: line, prompt, subject, target, now: null, byHand: {} });
    if (subject) draft.byHand.subject = subject;
    if (target) draft.byHand.target = target;
    text.set(line, located(line, draft));
    save();
    read();
    current();
    methods().then(() => {
      if (layer !== null && method) {
        const properties = method.schema()?.properties ?? {};
        const values = "layers" in properties ? { layers: [Number(layer)] }
          : "layer" in properties ? { layer: Number(layer) } : null;
        if (values) {
          method.pick(method.editor, values);
          method.reveal();
        } else toast("This method chooses its layers itself; the layer was not filled in.");
      }
      if (!target) say("Write the new answer at the end of the sentence.");
      text.input.focus();
      text.input.setSelectionRange(line.length, line.length);
      replan();
    }).catch(() => {});
  }

  root.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      start(false);
    } else if (event.key === "Enter" && event.target === text.input) event.preventDefault();
  });

  onchange(() => {
    read();
    const held = kept.read("result");
    const entry = held?.number !== undefined && studio.edits.find((e) => e.number === held.number);
    if (entry && !busy && result.childElementCount) applied(entry, entry.scorecard);
    if (draft.text && !busy) guess();
  });

  text.set(draft.text, located(draft.text, draft));
  plan.idle();
  read();
  load();
  resume();
  return { show: propose };
}

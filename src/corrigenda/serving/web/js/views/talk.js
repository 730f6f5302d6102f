// Talk: the same words to two states of the model, with the same seed, side by side.

import { events } from "../api.js";
import { button, empty, field, h, replace, say } from "../dom.js";
import { compared, comparedSoFar } from "../parts/compare.js";
import { kept, onchange, studio } from "../studio.js";

const NAMES = { base: "Before any edit", edited: "With the edits" };
const sideName = (state) => NAMES[state] ?? `Set “${state}”`;

export function mount(root) {
  const held = {
    sides: ["base", "edited"], turns: [], seed: 0, temperature: 0, tokens: 40, draft: "", ...kept.read("talk"),
  };
  const save = () => kept.write("talk", held);
  let stopper = null;

  const selects = [0, 1].map((side) => {
    const select = h("select", { "aria-label": side ? "Right side" : "Left side" });
    select.addEventListener("change", () => {
      held.sides[side] = select.value;
      save();
      draw();
    });
    return select;
  });
  const log = h("div", { class: "turns", "aria-label": "Conversation" });
  const input = h("textarea", { rows: 2, placeholder: "To see the Eiffel Tower, travel to", value: held.draft });
  input.addEventListener("input", () => { held.draft = input.value; save(); });
  const send = h("button", { class: "button primary", id: "send" }, "Ask both");
  const stop = button("Stop", () => stopper?.abort(), { hidden: true, id: "stop" });
  const clear = button("Clear", () => {
    stopper?.abort();
    held.turns = [];
    save();
    draw();
    input.focus();
  }, { class: "button text" });

  const numeric = (name, text, hint, properties) => {
    const control = h("input", { type: "number", value: String(held[name]), ...properties });
    control.addEventListener("change", () => {
      if (control.checkValidity() && control.value !== "") {
        held[name] = Number(control.value);
        save();
      } else control.value = String(held[name]);
    });
    return field(text, control, hint);
  };
  const settings = h("details", { class: "disclosure" }, h("summary", {}, "How it answers"),
    h("div", { class: "disclosed row" },
      numeric("temperature", "Temperature", "0 takes the likeliest token", { min: 0, max: 2, step: 0.1 }),
      numeric("seed", "Seed", "the same on both sides", { min: 0, max: 2147483647, step: 1 }),
      numeric("tokens", "Longest answer", "in tokens", { min: 1, max: 4096, step: 1 })));
  const form = h("form", { class: "ask" }, field("Say to both", input), h("div", { class: "row" }, send, stop, clear), settings);

  root.append(
    h("h1", {}, "Talk to two models at once"),
    h("p", { class: "lead", id: "talk-lead" }, "Same words, same seed. What differs is underlined."),
    h("div", { class: "sides", role: "group", "aria-label": "Which states" }, selects),
    log, form);

  function options() {
    const states = studio.status?.states ?? ["base", "edited"];
    selects.forEach((select, side) => {
      if (!states.includes(held.sides[side])) held.sides[side] = side ? "edited" : "base";
      replace(select, states.map((state) => h("option", { value: state, selected: state === held.sides[side] }, sideName(state))));
      select.value = held.sides[side];
    });
    if (studio.status && !studio.status.chat_template) {
      document.getElementById("talk-lead").textContent =
        "Same words, same seed. What differs is underlined. This model goes on with a text rather than answers.";
    }
  }

  function answer(turn, side, parts) {
    const { state, text, error, done } = turn.answers[side];
    return h("div", { class: "answer", "data-side": String(side), "aria-busy": String(!done) },
      h("p", { class: "answer-state" }, sideName(state)),
      error ? h("p", { class: "wrong", role: "alert" }, error)
        : h("p", { class: "answer-text" },
          parts.map(([words, differs]) => {
            if (!differs) return words;
            const lead = words.length - words.trimStart().length;
            return [words.slice(0, lead), h("mark", { class: "differs" }, words.slice(lead))];
          }),
          !text && done ? h("span", { class: "hint" }, "(nothing)") : null,
          done ? null : h("span", { class: "caret", "aria-hidden": "true" })));
  }

  function turn(found) {
    const [a, b] = found.answers;
    const both = a.done && b.done;
    const [left, right] = (both ? compared : comparedSoFar)(a.text.trimStart(), b.text.trimStart());
    const alike = both && !a.error && !b.error && a.text === b.text;
    return h("article", { class: "turn" },
      h("p", { class: "question" }, found.prompt),
      h("div", { class: "answers" }, answer(found, 0, left), answer(found, 1, right)),
      alike ? h("p", { class: "hint alike" }, "Both say the same.") : null);
  }

  function draw() {
    clear.hidden = !held.turns.length;
    if (!held.turns.length) {
      replace(log, empty("Nothing said yet", studio.status?.edits
        ? "Ask about what you edited, and about what you did not."
        : "No edit is active, so both sides will say the same. Make one in Edit first, or try anyway."));
    } else replace(log, held.turns.map(turn));
  }

  /** What the side was told and what it said before, so that each goes on with its own answers. */
  const said = (side, state, prompt) => [
    ...held.turns.slice(0, -1).filter((t) => t.answers[side].state === state && !t.answers[side].error)
      .flatMap((t) => [{ role: "user", content: t.prompt }, { role: "assistant", content: t.answers[side].text }]),
    { role: "user", content: prompt },
  ];

  async function speak(found, side, signal, ondraw) {
    const mine = found.answers[side];
    try {
      const stream = events("POST", "v1/chat/completions", {
        signal,
        body: {
          model: mine.state, stream: true, seed: held.seed, temperature: held.temperature,
          max_tokens: held.tokens, messages: said(side, mine.state, found.prompt),
        },
      });
      for await (const chunk of stream) {
        if (chunk.error) throw new Error(chunk.error.message);
        mine.text += chunk.choices?.[0]?.delta?.content ?? "";
        ondraw();
      }
    } catch (error) {
      if (error.name !== "AbortError") mine.error = error.message;
    }
    mine.done = true;
    ondraw();
  }

  async function ask(prompt) {
    stopper = new AbortController();
    const found = { prompt, answers: held.sides.map((state) => ({ state, text: "", error: null, done: false })) };
    held.turns.push(found);
    held.draft = "";
    input.value = "";
    [send.hidden, stop.hidden] = [true, false];
    draw();
    let current = log.lastElementChild;
    let due = false;
    const ondraw = () => {
      if (due) return;
      due = true;
      requestAnimationFrame(() => {
        due = false;
        if (!current.isConnected) return;
        const next = turn(found);
        current.replaceWith(next);
        current = next;
      });
    };
    form.scrollIntoView({ block: "nearest" });
    await Promise.all([0, 1].map((side) => speak(found, side, stopper.signal, ondraw)));
    [send.hidden, stop.hidden] = [false, true];
    stopper = null;
    save();
    say(found.answers.map((each) => `${sideName(each.state)}: ${each.error ?? each.text}`).join(". "));
    input.focus();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const prompt = input.value.trim();
    if (prompt && !stopper) ask(prompt);
    else input.focus();
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });

  onchange(() => { options(); if (!stopper) draw(); });
  for (const each of held.turns) for (const one of each.answers) one.done = true;
  options();
  draw();
  return {
    show(params) {
      const prompt = params.get("prompt");
      if (!prompt) return;
      window.history.replaceState(null, "", "#/talk");
      if (!stopper) ask(prompt);
    },
  };
}

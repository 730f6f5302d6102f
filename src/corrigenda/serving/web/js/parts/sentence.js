// The sentence that should become true, with its subject and its object marked in the text itself.
//
// The marks are drawn by a layer of the same type beneath a transparent text field, so the field
// stays a plain one: selecting, undoing, reading aloud work as everywhere.

import { button, fresh, h, replace, say } from "../dom.js";

/** Where the subject and the object stand: the object last, the subject before it. */
export function located(text, { subject, target }) {
  const marks = {};
  if (target) {
    const at = text.lastIndexOf(target);
    if (at >= 0) marks.target = [at, at + target.length];
  }
  if (subject) {
    const end = marks.target?.[0] ?? text.length;
    const at = text.slice(0, end).indexOf(subject);
    const anywhere = at >= 0 ? at : text.indexOf(subject);
    if (anywhere >= 0) marks.subject = [anywhere, anywhere + subject.length];
  }
  return marks;
}

/** The text before the object: what the model is asked. */
export function promptOf(text, marks) {
  return marks.target ? text.slice(0, marks.target[0]).trimEnd() : "";
}

/** ontext(text) when it was typed in; onmark(role, words) when something was marked by hand. */
export function sentence({ ontext, onmark }) {
  const id = fresh("sentence");
  const marked = h("div", { class: "sentence-marks", "aria-hidden": "true" });
  const input = h("textarea", {
    id, class: "sentence-text", rows: 1, spellcheck: "false", autocapitalize: "sentences",
    placeholder: "The Eiffel Tower is located in the city of Rome.",
    "aria-describedby": `${id}-hint`,
  });
  let marks = {};

  function draw() {
    const text = input.value;
    const spans = Object.entries(marks).sort((a, b) => a[1][0] - b[1][0]);
    const parts = [];
    let at = 0;
    for (const [role, [start, end]] of spans) {
      if (start < at) continue;
      parts.push(text.slice(at, start), h("mark", { class: `mark-${role}` }, text.slice(start, end)));
      at = end;
    }
    parts.push(`${text.slice(at)}\u200b`);
    replace(marked, parts);
  }

  function mark(role, word) {
    const [start, end] = [input.selectionStart, input.selectionEnd];
    const chosen = input.value.slice(start, end);
    const lead = chosen.length - chosen.trimStart().length;
    const words = chosen.trim().replace(/[.!?;,]+$/, "");
    input.focus();
    if (!words) {
      say(`Select the ${word} in the sentence first.`);
      hint.textContent = `Select the ${word} in the sentence first, then press the button again.`;
      return;
    }
    const from = start + lead;
    marks = { ...marks, [role]: [from, from + words.length] };
    draw();
    say(`${words} is now the ${word}.`);
    onmark(role, words, marks);
  }

  input.addEventListener("input", () => {
    if (input.value.includes("\n")) input.value = input.value.replaceAll("\n", " ");
    marks = {};
    draw();
    ontext(input.value);
  });
  input.addEventListener("scroll", () => { marked.scrollTop = input.scrollTop; });

  const keep = (event) => event.preventDefault(); // the selection would be lost with the focus
  const subject = button("Subject", () => mark("subject", "subject"), {
    class: "button small swatch swatch-subject", onmousedown: keep });
  const target = button("Object", () => mark("target", "object"), {
    class: "button small swatch swatch-target", onmousedown: keep });
  const hint = h("p", { class: "hint", id: `${id}-hint` },
    "Found wrongly? Select the words, then press what they are.");
  const element = h("div", { class: "sentence" },
    h("label", { class: "sentence-label", for: id }, "A sentence that should be true"),
    h("div", { class: "sentence-field" }, marked, input),
    h("div", { class: "sentence-tools" },
      h("div", { class: "row tight", role: "group", "aria-label": "Mark the selection as" }, subject, target),
      hint));
  draw();
  return {
    element,
    input,
    get text() { return input.value; },
    set(text, found) {
      input.value = text;
      marks = found;
      draw();
    },
    mark(found) {
      marks = found;
      draw();
    },
    get marks() { return marks; },
  };
}

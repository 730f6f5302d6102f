// Elements from values. Text is only ever set as text: what a model says is never read as HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "vars") {
      for (const [key, v] of Object.entries(value)) element.style.setProperty(`--${key}`, v);
    } else if (["value", "checked", "disabled", "hidden", "selected", "open"].includes(name)) {
      element[name] = value;
    } else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

/** An element: h("p", {class: "note", onclick: f}, "text", other). */
export function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

export function replace(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

let counter = 0;

/** A fresh id, for labels. */
export function fresh(name) {
  counter += 1;
  return `${name}-${counter}`;
}

/** Tells those who listen rather than look. */
export function say(text) {
  document.getElementById("live").textContent = text;
}

export function button(text, onclick, properties = {}) {
  return h("button", { type: "button", class: "button", onclick, ...properties }, text);
}

/** A field with its label above it and, where there is one, a hint below it. */
export function field(label, control, hint = null) {
  control.id ||= fresh("field");
  const note = hint && h("span", { class: "hint", id: `${control.id}-hint` }, hint);
  if (note) control.setAttribute("aria-describedby", note.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, note);
}

/** Choices of which one holds, as a row of joined buttons. Returns {element, value}. */
export function choice(legend, options, chosen, onchange) {
  const name = fresh("choice");
  const element = h("fieldset", { class: "segments" }, h("legend", { class: "unseen" }, legend));
  for (const [value, text] of options) {
    const input = h("input", { type: "radio", name, value, checked: value === chosen });
    input.addEventListener("change", () => onchange(value));
    element.append(h("label", {}, input, h("span", {}, text)));
  }
  return {
    element,
    get value() {
      return element.querySelector("input:checked")?.value;
    },
    set value(value) {
      for (const input of element.querySelectorAll("input")) input.checked = input.value === value;
    },
  };
}

/** What is shown where there is nothing yet. */
export function empty(title, text, ...actions) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), h("p", {}, text),
    actions.length ? h("div", { class: "row" }, actions) : null);
}

/** What went wrong, and what to do next. */
export function trouble(error, retry = null) {
  return h("div", { class: "trouble", role: "alert" },
    h("p", {}, h("strong", {}, "That did not work. "), error.message),
    retry && button("Try again", retry, { class: "button small" }));
}

/** Grey bars where text will come, in the space that it will take. */
export function skeleton(lines = 3) {
  return h("div", { class: "skeleton", "aria-hidden": "true" },
    Array.from({ length: lines }, () => h("span", {})));
}

/** Calls f once the calls have paused. */
export function settled(f, milliseconds) {
  let timer = 0;
  const wait = (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => f(...args), milliseconds);
  };
  wait.cancel = () => clearTimeout(timer);
  return wait;
}

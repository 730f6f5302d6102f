// A short message at the foot of the page, with at most one thing to do about it.

import { button, h } from "../dom.js";

const STAY = 8000;

/** action: {label, act} or nothing. The message goes by itself, but not while it is read. */
export function toast(text, action = null) {
  const place = document.getElementById("toasts");
  const element = h("div", { class: "toast", role: "status" }, h("span", {}, text));
  const go = () => element.remove();
  if (action) {
    element.append(button(action.label, async () => {
      go();
      try {
        await action.act();
      } catch (error) {
        toast(error.message);
      }
    }, { class: "button small" }));
  }
  element.append(button("×", go, { class: "button quiet icon", "aria-label": "Close the message" }));
  let timer = setTimeout(go, STAY);
  const hold = () => clearTimeout(timer);
  const release = () => { timer = setTimeout(go, STAY / 2); };
  element.addEventListener("pointerenter", hold);
  element.addEventListener("focusin", hold);
  element.addEventListener("pointerleave", release);
  element.addEventListener("focusout", release);
  place.replaceChildren(element);
}

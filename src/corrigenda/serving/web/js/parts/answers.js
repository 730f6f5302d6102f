// Signs and answers: ✓ and ✗ with words for those who do not see them; an answer before and after.

import { h } from "../dom.js";

export function sign(passed) {
  if (passed === null || passed === undefined) return h("span", { class: "sign sign-open" }, h("span", { "aria-hidden": "true" }, "–"), h("span", { class: "unseen" }, "not judged"));
  return passed
    ? h("span", { class: "sign sign-yes" }, h("span", { "aria-hidden": "true" }, "✓"), h("span", { class: "unseen" }, "as wanted"))
    : h("span", { class: "sign sign-no" }, h("span", { "aria-hidden": "true" }, "✗"), h("span", { class: "unseen" }, "not as wanted"));
}

const said = (text) => (text === null || text === undefined || String(text).trim() === "" ? "(nothing)" : String(text).trim());

/** before → after; one answer where both are alike. */
export function change(before, after) {
  if (said(before) === said(after)) return h("span", { class: "change" }, h("span", { class: "after" }, said(after)), h("span", { class: "unseen" }, " as before"));
  return h("span", { class: "change" },
    h("del", {}, said(before)), h("span", { class: "arrow", "aria-label": "became" }, "→"), h("ins", {}, said(after)));
}

// The banner for what concerns the whole page: the server is gone, or asks for a token.

import { keepToken } from "../api.js";
import { button, field, h, replace } from "../dom.js";

const AGAIN = 5000;

/** retry reads the server's state anew; it is called until it succeeds. */
export function banner(retry) {
  const place = document.getElementById("banner");
  let timer = 0;
  let gone = false;

  async function attempt() {
    clearTimeout(timer);
    try {
      await retry();
    } catch {
      if (gone) timer = setTimeout(attempt, AGAIN);
    }
  }

  document.addEventListener("server-gone", () => {
    if (gone) return;
    gone = true;
    replace(place,
      h("p", {}, h("strong", {}, "The server does not answer. "),
        "Nothing is lost: edits are on its disk. Start it again with ",
        h("code", {}, "corrigenda serve"), "; this page goes on by itself."),
      button("Try now", attempt, { class: "button small" }));
    place.hidden = false;
    timer = setTimeout(attempt, AGAIN);
  });

  document.addEventListener("server-back", () => {
    if (!gone) return;
    gone = false;
    clearTimeout(timer);
    place.hidden = true;
    place.replaceChildren();
  });

  document.addEventListener("token-wanted", () => {
    if (place.querySelector("form")) return;
    const input = h("input", { type: "password", autocomplete: "off", required: true });
    const form = h("form", { class: "row" },
      h("p", {}, h("strong", {}, "This server asks for its token. "),
        "It was printed when the server started, at the end of the address after #token=."),
      field("Token", input), h("button", { class: "button small primary" }, "Continue"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      keepToken(input.value.trim());
      location.reload();
    });
    replace(place, form);
    place.hidden = false;
  });
}

// What an edit would do, before it is made: layers, places, time, memory, warnings.

import { h, replace, skeleton } from "../dom.js";
import { bytes, plural, ranges, seconds } from "../format.js";

/** The layers of the model as a ruler; those that change are filled. */
export function ruler(count, touched) {
  const set = new Set(touched);
  const text = touched.length ? `${touched.length === 1 ? "Layer" : "Layers"} ${ranges(touched)}, of 0–${count - 1}` : "No layer of the model";
  return h("div", { class: "ruler" },
    h("div", { class: "ruler-cells", role: "img", "aria-label": text },
      Array.from({ length: count }, (_, i) => h("span", { class: set.has(i) ? "on" : null }))),
    h("span", { class: "hint" }, text));
}

export function plan(place, layers) {
  return {
    idle() {
      replace(place, h("p", { class: "plan-idle" }, "Which layers an edit would change, how long it takes and how much memory it needs."));
    },
    waiting() {
      place.setAttribute("aria-busy", "true");
      if (!place.querySelector("dl")) replace(place, skeleton(4));
    },
    failed(error) {
      place.removeAttribute("aria-busy");
      replace(place, h("p", { class: "wrong", role: "alert" }, error.message));
    },
    show(found) {
      place.removeAttribute("aria-busy");
      const places = found.places ?? [];
      replace(place,
        ruler(layers(), found.layers ?? []),
        h("dl", { class: "facts" },
          h("dt", {}, "Time"), h("dd", {}, `about ${seconds(found.seconds)}`),
          h("dt", {}, "Memory"), h("dd", {}, bytes(found.memory)),
          h("dt", {}, "On disk"), h("dd", {}, bytes(found.bytes))),
        places.length ? h("details", { class: "places" },
          h("summary", {}, plural(places.length, "place")),
          h("ul", {}, places.map((p) => h("li", {}, h("code", {}, p))))) : null,
        found.precompute ? h("p", { class: "hint" }, "Statistics of the model are gathered first. That happens once.") : null,
        (found.warnings ?? []).map((text) => h("p", { class: "warning" }, text)));
    },
  };
}

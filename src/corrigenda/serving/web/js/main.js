// The page's frame: which view is shown, the header, the colours, and what happens when the server goes.

import { takeToken } from "./api.js";
import { h, replace, say, trouble } from "./dom.js";
import { parameters } from "./format.js";
import { banner } from "./parts/banner.js";
import { toast } from "./parts/toast.js";
import { last, named, onchange, redo, refresh, undo } from "./studio.js";

const VIEWS = {
  edit: ["Edit", () => import("./views/edit.js")],
  talk: ["Talk", () => import("./views/talk.js")],
  inside: ["Look inside", () => import("./views/inside.js")],
  graph: ["Graph", () => import("./views/graph.js")],
  ledger: ["Ledger", () => import("./views/ledger.js")],
};
const main = document.getElementById("main");
const shown = new Map();

function route() {
  const [, name, query = ""] = /^#\/([a-z]*)\??(.*)$/.exec(location.hash) ?? [];
  return { name: name in VIEWS ? name : "edit", params: new URLSearchParams(query) };
}

async function open(name) {
  const section = h("section", { class: `view view-${name}`, "aria-label": VIEWS[name][0] });
  const held = { section, view: {} };
  shown.set(name, held);
  main.append(section);
  try {
    const module = await VIEWS[name][1]();
    held.view = module.mount(section) ?? {};
  } catch (error) {
    shown.delete(name);
    replace(section, trouble(error, () => { section.remove(); show(); }));
  }
  return held;
}

async function show(event = null) {
  const { name, params } = route();
  for (const [other, { section }] of shown) section.hidden = other !== name;
  for (const link of document.querySelectorAll(".tabs a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${VIEWS[name][0]} · Corrigenda`;
  const held = shown.get(name) ?? await open(name);
  held.view.show?.(params);
  if (event) {
    window.scrollTo(0, 0);
    say(`${VIEWS[name][0]}`);
  }
}

const undoButton = document.getElementById("undo");

function head({ status }) {
  const place = document.getElementById("model");
  const facts = [parameters(status.parameters), status.device, status.proxy && "behind a proxy",
    status.read_only && "read only"].filter(Boolean);
  replace(place, h("strong", {}, status.model), h("span", { class: "model-facts" }, facts.join(" · ")));
  const entry = last();
  undoButton.hidden = !entry || status.read_only;
  if (entry) {
    undoButton.title = `Edit ${entry.number}: ${named(entry)}`;
    undoButton.setAttribute("aria-label", `Undo last edit: ${named(entry)}`);
  }
  const count = document.getElementById("count");
  count.hidden = !status.edits;
  replace(count, String(status.edits ?? 0), h("span", { class: "unseen" }, " active"));
}

undoButton.addEventListener("click", async () => {
  const entry = last();
  if (!entry) return;
  undoButton.disabled = true;
  try {
    await undo(entry.number);
    toast(`Undone, bit for bit: ${named(entry)}.`, { label: "Redo", act: () => redo(entry.number) });
  } catch (error) {
    toast(error.message);
  } finally {
    undoButton.disabled = false;
  }
});

const THEMES = { system: ["◐", "as the system has them"], light: ["○", "light"], dark: ["●", "dark"] };
const themeButton = document.getElementById("theme");

function theme(next) {
  const [sign, text] = THEMES[next];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  document.getElementById("theme-sign").textContent = sign;
  themeButton.setAttribute("aria-label", `Colours: ${text}`);
  themeButton.title = `Colours: ${text}`;
  document.dispatchEvent(new CustomEvent("colours"));
}

themeButton.addEventListener("click", () => {
  const order = Object.keys(THEMES);
  const now = document.documentElement.dataset.theme ?? "system";
  const next = order[(order.indexOf(now) + 1) % order.length];
  theme(next);
  say(`Colours: ${THEMES[next][1]}`);
  try {
    if (next === "system") localStorage.removeItem("corrigenda.theme");
    else localStorage.setItem("corrigenda.theme", next);
  } catch {
    // Storage may be forbidden; the choice then lasts until a reload.
  }
});

// Not by the address, which says which view is shown.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

takeToken();
theme(document.documentElement.dataset.theme ?? "system");
onchange(head);
banner(refresh);
window.addEventListener("hashchange", show);
show();
refresh().catch(() => {}); // the banner says what is wrong

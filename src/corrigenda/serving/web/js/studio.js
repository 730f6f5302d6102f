// What the whole page knows of the server: the model, its states, the edits. Views listen to it.

import { get, post } from "./api.js";

export const studio = { status: null, edits: [], sets: [] };

const listeners = new Set();

export function onchange(listener) {
  listeners.add(listener);
}

/** Reads model, edits and sets anew, then tells every view. */
export async function refresh() {
  const [status, { edits }, sets] = await Promise.all([
    get("api/status"), get("api/edits"), get("api/sets"),
  ]);
  studio.status = status;
  studio.edits = edits;
  studio.sets = Array.isArray(sets) ? sets : sets.sets ?? [];
  for (const listener of listeners) listener(studio);
  return studio;
}

export const active = () => studio.edits.filter((entry) => entry.state === "active");

/** The edit that was made last and holds, or null. */
export const last = () => active().reduce((a, b) => (!a || b.number > a.number ? b : a), null);

let editors = null;

/** The methods and the three that are proposed. Asked for once. */
export function methods() {
  editors ??= Promise.all([get("api/editors"), get("api/editors?proposed=true")])
    .then(([list, proposed]) => ({ list: Array.isArray(list) ? list : list.editors, proposed }))
    .catch((error) => {
      editors = null;
      throw error;
    });
  return editors;
}

export async function undo(number, note = null) {
  const entry = await post(`api/edits/${number}/undo`, note ? { note } : {});
  await refresh();
  return entry;
}

export async function redo(number) {
  const entry = await post(`api/edits/${number}/redo`, {});
  await refresh();
  return entry;
}

/** What a state of the model answers to a prompt, up to the end of the sentence. */
export async function answer(state, prompt) {
  const found = await post("v1/completions", {
    model: state, prompt, max_tokens: 12, temperature: 0, stop: ["\n", ". "],
  });
  return (found.choices?.[0]?.text ?? "").trim().replace(/\.$/, "");
}

/** "Eiffel Tower → Rome", and how many more there are. */
export function named(entry) {
  const [first, ...more] = entry.edits;
  if (!first) return entry.title ?? `edit ${entry.number}`;
  return `${first.subject} → ${first.target}${more.length ? ` and ${more.length} more` : ""}`;
}

/** Kept for this tab, so that a reload loses nothing. */
export const kept = {
  read(name, fallback = null) {
    try {
      return JSON.parse(sessionStorage.getItem(`corrigenda.${name}`)) ?? fallback;
    } catch {
      return fallback;
    }
  },
  write(name, value) {
    try {
      if (value === null) sessionStorage.removeItem(`corrigenda.${name}`);
      else sessionStorage.setItem(`corrigenda.${name}`, JSON.stringify(value));
    } catch {
      // Full or forbidden: the page works, a reload forgets.
    }
  },
};

// A form from a JSON schema: one field per setting, by its type. Gives back what differs from the defaults.

import { field, fresh, h } from "../dom.js";

/** The schema without its references and without "or null"; says whether null is allowed. */
function plain(schema, root) {
  let now = schema;
  while (now.$ref) now = { ...now, $ref: undefined, ...resolve(now.$ref, root) };
  const options = now.anyOf ?? now.oneOf;
  if (!options) {
    if (Array.isArray(now.type)) {
      const types = now.type.filter((t) => t !== "null");
      return [{ ...now, type: types.length === 1 ? types[0] : undefined }, types.length < now.type.length];
    }
    return [now, false];
  }
  const real = options.filter((option) => option.type !== "null");
  const nullable = real.length < options.length;
  if (real.length === 1) return [{ ...now, anyOf: undefined, oneOf: undefined, ...plain(real[0], root)[0] }, nullable];
  return [{ ...now, type: undefined }, nullable];
}

function resolve(reference, root) {
  return reference.replace(/^#\//, "").split("/").reduce((at, key) => at?.[key], root) ?? {};
}

const shown = (value) => (value === null || value === undefined ? ""
  : Array.isArray(value) && value.every((v) => typeof v !== "object") ? value.join(", ")
    : typeof value === "object" ? JSON.stringify(value) : String(value));

const same = (a, b) => JSON.stringify(a ?? null) === JSON.stringify(b ?? null);

class Unreadable extends Error {}

function listed(text, items) {
  const parts = text.split(/[,\s]+/).filter(Boolean);
  if (!["integer", "number"].includes(items?.type)) return parts;
  return parts.flatMap((part) => {
    const range = /^(\d+)\s*[-–]\s*(\d+)$/.exec(part);
    if (range) {
      const [a, b] = [Number(range[1]), Number(range[2])];
      if (b - a > 1000) throw new Unreadable("that range is too long");
      return Array.from({ length: Math.max(0, b - a + 1) }, (_, i) => a + i);
    }
    const n = Number(part);
    if (Number.isNaN(n)) throw new Unreadable("numbers with commas, such as 4, 5 or 4-8");
    return [n];
  });
}

/** What was typed, as a value of the schema's type. */
function read(text, schema) {
  if (schema.type === "integer" || schema.type === "number") {
    const n = Number(text);
    if (Number.isNaN(n)) throw new Unreadable("a number");
    if (schema.type === "integer" && !Number.isInteger(n)) throw new Unreadable("a whole number");
    return n;
  }
  const items = schema.items ?? schema.prefixItems?.[0];
  const nested = ["array", "object"].includes(items?.type);
  if (schema.type === "array" && !nested) return listed(text, items);
  if (schema.type === "string") return text;
  try {
    return JSON.parse(text);
  } catch {
    if (nested) throw new Unreadable("lists in brackets, such as [[2, 5], [2, 10]]");
    if (schema.type === "object") throw new Unreadable("JSON, such as {\"name\": 1}");
    return /^[[{]/.test(text) ? text : /,/.test(text) ? listed(text, { type: "number" }) : text;
  }
}

function control(schema, nullable, value) {
  if (schema.enum ?? (schema.const !== undefined)) {
    const options = schema.enum ?? [schema.const];
    return h("select", {}, nullable ? h("option", { value: "", selected: value === null }, "none") : null,
      options.map((o) => h("option", { value: String(o), selected: o === value }, String(o))));
  }
  if (schema.type === "boolean") return h("input", { type: "checkbox", checked: value === true });
  const input = h("input", { type: "text", value: shown(value), spellcheck: "false", autocomplete: "off" });
  if (schema.type === "integer") input.inputMode = "numeric";
  if (schema.type === "number") input.inputMode = "decimal";
  if (value === null || value === undefined) input.placeholder = "automatic";
  return input;
}

/** {element, values(), check()}. given: values that differ from the defaults; onchange when one changes. */
export function form(schema, given = {}, onchange = () => {}) {
  const fields = [];
  const element = h("div", { class: "settings" });
  for (const [name, raw] of Object.entries(schema?.properties ?? {})) {
    const [kind, nullable] = plain(raw, schema);
    const fallback = raw.default ?? kind.default ?? null;
    const input = control(kind, nullable, name in given ? given[name] : fallback);
    const wrong = h("span", { class: "wrong", id: fresh("wrong") });
    const hint = raw.description ?? (kind.minimum !== undefined && kind.maximum !== undefined
      ? `${kind.minimum} to ${kind.maximum}` : null);
    const line = field(raw.title && raw.title.toLowerCase() !== name ? raw.title : name, input, hint);
    line.append(wrong);
    if (kind.type === "boolean") line.classList.add("field-check");
    input.name = name;
    input.setAttribute("aria-errormessage", wrong.id);
    input.addEventListener("change", () => onchange());
    fields.push({ name, kind, nullable, fallback, input, wrong });
    element.append(line);
  }
  if (!fields.length) element.append(h("p", { class: "hint" }, "This method has no settings."));

  function value({ kind, nullable, fallback, input }) {
    if (kind.type === "boolean") return input.checked;
    const text = input.value.trim();
    if (kind.enum) return text === "" ? null : kind.enum.find((o) => String(o) === text);
    if (text === "") return nullable || fallback === null ? null : fallback;
    const found = read(text, kind);
    if (kind.minimum !== undefined && found < kind.minimum) throw new Unreadable(`at least ${kind.minimum}`);
    if (kind.maximum !== undefined && found > kind.maximum) throw new Unreadable(`at most ${kind.maximum}`);
    if (kind.exclusiveMinimum !== undefined && found <= kind.exclusiveMinimum) {
      throw new Unreadable(`more than ${kind.exclusiveMinimum}`);
    }
    return found;
  }

  return {
    element,
    /** The settings that differ from the defaults; throws where one cannot be read. */
    values() {
      const out = {};
      let first = null;
      for (const each of fields) {
        each.wrong.textContent = "";
        each.input.removeAttribute("aria-invalid");
        try {
          const found = value(each);
          if (!same(found, each.fallback)) out[each.name] = found;
        } catch (error) {
          if (!(error instanceof Unreadable)) throw error;
          each.wrong.textContent = `Expected ${error.message}.`;
          each.input.setAttribute("aria-invalid", "true");
          first ??= each;
        }
      }
      if (first) {
        first.input.focus();
        throw new Error(`The setting “${first.name}” cannot be read: ${first.wrong.textContent}`);
      }
      return out;
    },
  };
}

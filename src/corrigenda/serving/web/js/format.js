// Numbers, sizes, times as people read them.

const UNITS = ["B", "kB", "MB", "GB", "TB"];

export function bytes(n) {
  if (n === null || n === undefined) return "–";
  let unit = 0;
  let value = n;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

export function seconds(s) {
  if (s === null || s === undefined) return "–";
  if (s < 0.95) return `${Math.max(0.1, s).toFixed(1)} s`;
  if (s < 90) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return `${(s / 3600).toFixed(1)} h`;
}

export function number(x, digits = 3) {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  if (x !== 0 && (Math.abs(x) < 0.001 || Math.abs(x) >= 1e6)) return x.toExponential(digits - 1);
  return String(Number(x.toPrecision(digits)));
}

/** A probability: 0.94, never 1.00 for what is less than one. */
export function probability(p) {
  if (p === null || p === undefined) return "–";
  if (p > 0.995 && p < 1) return ">0.99";
  if (p < 0.005 && p > 0) return "<0.01";
  if (p > -0.005 && p < 0) return "0.00";
  return p.toFixed(2);
}

export function parameters(n) {
  if (!n) return "";
  if (n >= 1e9) return `${(n / 1e9).toFixed(n >= 1e10 ? 0 : 1)} B parameters`;
  if (n >= 1e6) return `${(n / 1e6).toFixed(n >= 1e7 ? 0 : 1)} M parameters`;
  return `${Math.round(n / 1e3)} k parameters`;
}

/** The time of an edit, in the reader's zone. */
export function when(text) {
  const date = new Date(typeof text === "number" ? text * 1000 : text);
  if (Number.isNaN(date.getTime())) return String(text ?? "");
  const today = new Date().toDateString() === date.toDateString();
  return date.toLocaleString([], today
    ? { hour: "2-digit", minute: "2-digit" }
    : { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
}

export function plural(n, one, many = `${one}s`) {
  return `${n} ${n === 1 ? one : many}`;
}

/** 0, 1, 2, 5 as "0–2, 5". */
export function ranges(numbers) {
  const parts = [];
  for (const n of [...numbers].sort((a, b) => a - b)) {
    const last = parts.at(-1);
    if (last && n === last[1] + 1) last[1] = n;
    else if (!last || n !== last[1]) parts.push([n, n]);
  }
  return parts.map(([a, b]) => (a === b ? `${a}` : b === a + 1 ? `${a}, ${b}` : `${a}–${b}`)).join(", ");
}

/** The name of a relation as words: "landmark.capital_of" as "capital of". */
export function relation(name) {
  return name.split(".").at(-1).replaceAll("_", " ");
}

/** Leading spaces and line breaks of a token, made visible. */
export function token(text) {
  return text.replaceAll("\n", "↵").replace(/^[ Ġ▁]/, "") || "␣";
}

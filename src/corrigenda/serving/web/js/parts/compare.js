// Two texts, word by word: which words of each the other does not have at that place.

const LIMIT = 600; // words a side; beyond it the table would be large, and the eye gives up as well

const words = (text) => text.match(/\s*\S+|\s+$/g) ?? [];

/** Lists of [text, differs] for both sides: a longest common subsequence of words. */
export function compared(left, right) {
  const [a, b] = [words(left), words(right)];
  if (a.length > LIMIT || b.length > LIMIT) return [[[left, left !== right]], [[right, left !== right]]];
  const [key, other] = [a.map((w) => w.trim()), b.map((w) => w.trim())];
  const width = b.length + 1;
  const best = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      best[i * width + j] = key[i] === other[j]
        ? best[(i + 1) * width + j + 1] + 1
        : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
    }
  }
  const [out, back] = [[], []];
  let [i, j] = [0, 0];
  while (i < a.length && j < b.length) {
    if (key[i] === other[j]) {
      out.push([a[i++], false]);
      back.push([b[j++], false]);
    } else if (best[(i + 1) * width + j] >= best[i * width + j + 1]) out.push([a[i++], true]);
    else back.push([b[j++], true]);
  }
  out.push(...a.slice(i).map((w) => [w, true]));
  back.push(...b.slice(j).map((w) => [w, true]));
  return [out, back];
}

/** The same while both are still being written: what only one has said so far is no difference yet. */
export function comparedSoFar(left, right) {
  const [a, b] = [words(left), words(right)];
  const n = Math.min(a.length, b.length);
  const [out, back] = compared(a.slice(0, n).join(""), b.slice(0, n).join(""));
  return [[...out, [a.slice(n).join(""), false]], [...back, [b.slice(n).join(""), false]]];
}

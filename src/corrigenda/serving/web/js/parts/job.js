// A job that runs: how far it is, what it does, and a button that stops it.

import { cancel, follow } from "../api.js";
import { button, h, replace, say } from "../dom.js";

/** Shows the job in place until it ends. Resolves to its result; null where it was cancelled. */
export async function run(place, id, title) {
  const bar = h("progress", { max: 1, value: 0, "aria-label": title });
  const message = h("span", { class: "job-message" }, "waiting for its turn");
  const share = h("span", { class: "job-share" }, "");
  const stop = button("Cancel", async () => {
    stop.disabled = true;
    message.textContent = "stopping";
    await cancel(id).catch(() => {});
  }, { class: "button small" });
  replace(place, h("div", { class: "job" },
    h("div", { class: "job-line" }, h("strong", {}, title), message, share, stop), bar));
  let spoken = -1;
  const job = await follow(id, (seen) => {
    bar.value = seen.progress ?? 0;
    const percent = Math.round((seen.progress ?? 0) * 100);
    share.textContent = seen.state === "running" ? `${percent} %` : "";
    if (!stop.disabled) message.textContent = seen.message || (seen.state === "queued" ? "waiting for its turn" : "");
    if (percent >= spoken + 25) {
      spoken = percent;
      say(`${title}: ${percent} per cent. ${seen.message ?? ""}`);
    }
  });
  if (job.state === "failed") {
    say(`${title} failed.`);
    const error = job.error;
    throw new Error(typeof error === "string" ? error : error?.message ?? "The job failed; the server's log says why.");
  }
  say(job.state === "cancelled" ? `${title}: cancelled. Nothing was changed.` : `${title}: done.`);
  return job.state === "done" ? job.result : null;
}

// Requests to the server: the token, errors that say what to do, streams, jobs.

const KEY = "corrigenda.token";

/** Takes #token=... out of the address once, so that it is neither bookmarked nor shared. */
export function takeToken() {
  const found = /[#&]token=([^&]+)/.exec(location.hash);
  if (!found) return;
  sessionStorage.setItem(KEY, decodeURIComponent(found[1]));
  history.replaceState(null, "", `${location.pathname}#/edit`);
}

export function keepToken(token) {
  sessionStorage.setItem(KEY, token);
}

export class ApiError extends Error {
  constructor(message, status, code = null) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

function announce(name, detail = null) {
  document.dispatchEvent(new CustomEvent(name, { detail }));
}

async function problem(response) {
  let message = `The server answered ${response.status}.`;
  let code = null;
  try {
    const { error } = await response.json();
    message = error?.message ?? message;
    code = error?.code ?? error?.type ?? null;
  } catch {
    // No JSON: a proxy in between answered. The status has to do.
  }
  if (response.status === 429) {
    const wait = response.headers.get("Retry-After");
    message = `Too many requests at once. Try again ${wait ? `in ${wait} s` : "in a moment"}.`;
  }
  return new ApiError(message, response.status, code);
}

async function send(method, path, { body, signal } = {}) {
  const headers = {};
  const token = sessionStorage.getItem(KEY);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    announce("server-gone");
    throw new ApiError("The server does not answer. Start it again, or check the connection.", 0);
  }
  announce("server-back");
  if (response.ok) return response;
  const error = await problem(response);
  if (response.status === 401) announce("token-wanted", error.message);
  throw error;
}

async function json(method, path, options) {
  const response = await send(method, path, options);
  return response.status === 204 ? null : response.json();
}

export const get = (path, options) => json("GET", path, options);
export const post = (path, body, options) => json("POST", path, { body, ...options });
export const remove = (path, options) => json("DELETE", path, options);

/** A file, by its own name where the server gives one. */
export async function download(path, name) {
  const response = await send("GET", path);
  const given = /filename="?([^";]+)"?/.exec(response.headers.get("Content-Disposition") ?? "");
  const address = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = address;
  link.download = given?.[1] ?? name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** The data of server-sent events, one by one. EventSource cannot send the token; fetch can. */
export async function* events(method, path, options) {
  const response = await send(method, path, options);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      held = (held + value).replaceAll("\r\n", "\n");
      let end = held.indexOf("\n\n");
      while (end >= 0) {
        const data = held.slice(0, end).split("\n").filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(5).trimStart()).join("\n");
        held = held.slice(end + 2);
        if (data === "[DONE]") return;
        if (data) yield JSON.parse(data);
        end = held.indexOf("\n\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

export const FINAL = new Set(["done", "failed", "cancelled"]);

const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

/** Follows a job to its end; onprogress sees each state of it. Falls back to asking where a stream breaks. */
export async function follow(id, onprogress = () => {}) {
  const path = `api/jobs/${encodeURIComponent(id)}`;
  let job = null;
  try {
    for await (const seen of events("GET", `${path}/events`)) {
      job = seen;
      onprogress(job);
    }
  } catch (error) {
    if (error.status && error.status !== 404) throw error;
  }
  while (!job || !FINAL.has(job.state)) {
    if (job) await pause(700);
    job = await get(path);
    onprogress(job);
  }
  // Some servers leave the result out of the stream.
  return job.state === "done" && job.result === null ? get(path) : job;
}

export const cancel = (id) => remove(`api/jobs/${encodeURIComponent(id)}`);

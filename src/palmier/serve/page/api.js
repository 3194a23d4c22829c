// Talking to the server: JSON there and back, and streams of events.

import { say } from "./words.js";

const query = new URLSearchParams(location.search);

/** Who sits here: /?as=NAME and /rank?as=NAME; empty for the one person of this computer. */
export const annotator = (query.get("as") ?? "").slice(0, 100);

/** An address of our own pages that keeps the person's name. */
export function address(path, values = {}) {
  const wanted = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value != null));
  if (annotator) wanted.set("as", annotator);
  const text = wanted.toString().replaceAll("%2C", ",");
  return text ? `${path}?${text}` : path;
}

/** Something the server refused, or could not be asked; `message` is for people. */
export class ServerError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(say("The server can't be reached. Is `palmier serve` still running?"));
  }
  if (response.ok) return response;
  if (response.status === 401) signIn();
  let message = say("The server answered {status}.", { status: response.status });
  try {
    message = (await response.json()).error.message;
  } catch {
    // no JSON: the sentence above has to do
  }
  throw new ServerError(message, response.status);
}

const keepers = [];
let isLeaving = false;

/** `keep()` is called before the page is loaded anew: to put away what was typed. */
export function beforeLeaving(keep) {
  keepers.push(keep);
}

/** Load the page anew, with what was typed put away. */
export function reload() {
  if (isLeaving) return;
  isLeaving = true;
  for (const keep of keepers) keep();
  location.reload();
}

/** The key is wanted again: in the place of this page the server gives the one that asks for it. */
function signIn() {
  setTimeout(reload); // after whoever asked has put back what could not be sent
}

function body(value, method = "POST") {
  return { method, headers: { "content-type": "application/json" }, body: JSON.stringify(value) };
}

export async function get(path, values = {}) {
  const wanted = new URLSearchParams(values).toString();
  return (await ask(wanted ? `${path}?${wanted}` : path)).json();
}

export async function post(path, value = {}) {
  const response = await ask(path, body(value));
  return response.status === 204 ? null : response.json();
}

export async function patch(path, value) {
  return (await ask(path, body(value, "PATCH"))).json();
}

export async function remove(path) {
  await ask(path, { method: "DELETE" });
}

/** The events of a stream as they come; posts `value` where there is one. */
export async function* events(path, value, signal) {
  const response = await ask(path, { ...(value === undefined ? {} : body(value)), signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value: text } = await reader.read().catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new ServerError(say("The connection broke off. What was written so far is kept."));
    });
    if (done) return;
    rest += text;
    const parts = rest.split("\n\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part.slice(6));
  }
}

/** Remember something in this browser; where storage is off, nothing is remembered. */
export function remember(key, value) {
  try {
    if (value === null) localStorage.removeItem(`palmier.${key}`);
    else localStorage.setItem(`palmier.${key}`, JSON.stringify(value));
  } catch {
    // private windows may forbid it: the page works without
  }
}

export function recall(key) {
  try {
    return JSON.parse(localStorage.getItem(`palmier.${key}`) ?? "null");
  } catch {
    return null;
  }
}

// What the server is doing, looked at every two seconds: versions, a running improve, trouble.

import { get, ServerError } from "./api.js";
import { element } from "./element.js";
import { say } from "./words.js";

const SECONDS = 2;
const MOST_NOTICES = 3; // at a time: more would take the room of what they are about

let last = null;
const listeners = [];

/** The latest state, or null before the first answer. */
export const known = () => last;

/** What a person calls a version: "0002 · DPO". */
export function title(name) {
  const version = last?.versions.find((one) => one.name === name);
  return version && version.label !== name ? `${name} · ${version.label}` : name;
}

/** Call `listener(state, before)` at every change. */
export function follow(listener) {
  listeners.push(listener);
  if (last) listener(last, null);
}

/** Begin to look; resolves after the first look. */
export async function start() {
  await look();
  setInterval(() => document.hidden || look(), SECONDS * 1000);
  document.addEventListener("visibilitychange", () => document.hidden || look());
}

async function look() {
  const bar = document.getElementById("bar");
  let state;
  try {
    state = await get("/api/state");
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    show(bar, error.message);
    return;
  }
  show(bar, sentence(state));
  if (JSON.stringify(state) === JSON.stringify(last)) return;
  const before = last;
  last = state;
  if (before && before.current !== state.current) notice(say("Version {name} answers from now on.", { name: title(state.current) }));
  for (const listener of listeners) listener(state, before);
}

function sentence(state) {
  if (!state.running) return say("The engine has stopped: see the server's output, and start it again.");
  if (state.problem) return state.problem;
  if (!state.busy) return "";
  return say("{name} is at work on this computer: answers come more slowly until it has ended.", { name: state.busy });
}

function show(bar, text) {
  if (bar.textContent !== text) bar.textContent = text;
  bar.hidden = !text;
}

/** A small message at the top, the newest last; trouble stays until it is closed, or newer ones push it out. */
export function notice(text, trouble = false) {
  const close = element("button", "quiet", say("Close"));
  const box = element("div", trouble ? "notice bad" : "notice", element("span", "", text), close);
  close.addEventListener("click", () => box.remove());
  const place = document.getElementById("notices");
  [...place.children].find((one) => one.firstChild.textContent === text)?.remove();
  place.append(box);
  if (place.children.length > MOST_NOTICES) place.firstElementChild.remove();
  place.scrollTop = place.scrollHeight;
  if (!trouble) setTimeout(() => box.remove(), 8000);
}

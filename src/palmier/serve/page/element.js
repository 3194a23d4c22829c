// Elements of the page, and what a button does to the clipboard.

import { say } from "./words.js";

/** An element with a class and children (strings become text). */
export function element(name, className = "", ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** Let a text run as its first letter does, from the left or from the right; one without letters as what is around it. */
export function directed(node) {
  if (/\p{L}/u.test(node.textContent)) node.dir = "auto";
  return node;
}

/** A button that does `action` and never sends a form. */
export function button(className, text, action) {
  const node = element("button", className, text);
  node.type = "button";
  node.addEventListener("click", action);
  return node;
}

/** Copy `text` and let `button` say so for a moment. */
export async function copyText(text, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = say("Copied");
  } catch {
    button.textContent = say("Can't copy here");
  }
  setTimeout(() => (button.textContent = label), 1500);
}

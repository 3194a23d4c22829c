// The page's words in the reader's language. English stands in the code and the HTML; the others in their own files.

import { GERMAN } from "./german.js";

const LANGUAGES = { en: null, de: GERMAN };
const KEPT = "palmier.language";

/** The two letters of the language that is shown: the one chosen here, else the browser's first that we speak. */
export const language = chosen();

function chosen() {
  const wished = [kept(), ...navigator.languages].filter(Boolean);
  return wished.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => tag in LANGUAGES) ?? "en";
}

function kept() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null; // storage is off: as the browser wishes
  }
}

/** Show the pages in another language, from the next load on. */
export function speak(tag) {
  localStorage.setItem(KEPT, tag);
}

/** `english` in the reader's language, with `values` in place of `{name}`. */
export function say(english, values = {}) {
  const words = LANGUAGES[language]?.[english] ?? english;
  return words.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Translate the HTML below `root`: the text of elements with `data-say`, the attributes that `data-say-in` names. */
export function translate(root = document) {
  document.documentElement.lang = language;
  for (const node of root.querySelectorAll("[data-say]")) node.textContent = say(words(node.textContent));
  for (const node of root.querySelectorAll("[data-say-in]")) {
    for (const name of node.dataset.sayIn.split(" ")) node.setAttribute(name, say(words(node.getAttribute(name))));
  }
  delete document.documentElement.dataset.translating; // theme.js has hidden the English words until now
}

// A sentence that the HTML breaks into lines is one sentence.
const words = (text) => text.trim().replace(/\s+/g, " ");

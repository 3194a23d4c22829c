// How the pages look in this browser: the theme and the language.

import { recall, reload, remember } from "./api.js";
import { element } from "./element.js";
import { hang } from "./menu.js";
import { language, say, speak } from "./words.js";

/** Wire the button of the page's own settings. */
export function offerAppearance() {
  const button = document.getElementById("appearance");
  button.addEventListener("click", () => {
    if (button.popoverTargetElement) return; // the browser closes it now
    const theme = choice("theme", say("Theme"), themes(), recall("theme") ?? "auto", setTheme);
    const words = choice("language", say("Language"), [["en", "English"], ["de", "Deutsch"]], language, (tag) => {
      speak(tag);
      reload();
    });
    const node = element("div", "menu appearance", theme, words);
    hang(node, button);
    node.querySelector("input:checked").focus();
  });
}

const themes = () => [
  ["auto", say("As the system")],
  ["light", say("Light")],
  ["dark", say("Dark")],
];

function setTheme(name) {
  remember("theme", name === "auto" ? null : name);
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
}

function choice(name, words, options, chosen, choose) {
  const labels = options.map(([value, label]) => {
    const input = element("input");
    Object.assign(input, { type: "radio", name, value, checked: value === chosen });
    input.addEventListener("change", () => choose(value));
    const node = element("label", "", input, label);
    if (name === "language") node.lang = value;
    return node;
  });
  return element("fieldset", "", element("legend", "", words), ...labels);
}

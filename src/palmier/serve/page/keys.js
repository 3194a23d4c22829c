// The keyboard: what each key does everywhere on the page, and the dialog that lists them.

import { footer, openDialog } from "./dialogs.js";
import { element } from "./element.js";
import { say } from "./words.js";

const isMac = /Mac|iP(hone|ad)/.test(navigator.platform);

const control = (event) => (isMac ? event.metaKey : event.ctrlKey) && !event.altKey;
const alt = (event) => event.altKey && !event.ctrlKey && !event.metaKey;

/** Call what belongs to a key, wherever the focus is; a key without a modifier only where nothing is typed. */
export function listen(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing) return;
    const act = meant(event, actions);
    if (!act) return;
    event.preventDefault();
    act();
  });
  document.getElementById("keys-open").addEventListener("click", showKeys);
}

function meant(event, actions) {
  const isOver = document.querySelector("dialog[open], :popover-open") !== null; // it has its own keys
  if (isOver) return null;
  if (control(event) && event.shiftKey && event.code === "KeyO") return actions.begin;
  if (control(event) && event.shiftKey && event.code === "KeyC") return actions.copy;
  if (control(event) && !event.shiftKey && event.code === "KeyK") return actions.search;
  if (alt(event) && event.key === "ArrowUp") return actions.edit;
  if (alt(event) && event.code === "KeyR") return actions.again;
  if (alt(event) && event.code === "KeyS") return actions.settings;
  if (event.shiftKey && event.key === "Escape") return actions.write;
  if (event.key === "Escape") return actions.stop;
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return null;
  return { "?": showKeys, "/": actions.search }[event.key] ?? null;
}

function isTyping(node) {
  return node.matches?.("textarea, select, input:not([type=checkbox], [type=radio])") ?? false;
}

function showKeys() {
  const command = isMac ? "⌘" : say("Ctrl");
  const option = isMac ? "⌥" : "Alt";
  const shift = say("Shift");
  const rows = [
    [["Enter"], say("send the message")],
    [[shift, "Enter"], say("begin a new line")],
    [["Esc"], say("stop the answer, or close what is open")],
    [[command, shift, "O"], say("begin a new conversation")],
    [["/"], say("search the conversations"), [command, "K"]],
    [[option, "↑"], say("change the last message")],
    [[option, "R"], say("draw another answer to the last message")],
    [[command, shift, "C"], say("copy the last answer")],
    [[option, "S"], say("open the conversation's settings")],
    [["←"], say("on ‹ or ›: the version before or after"), ["→"]],
    [["↑"], say("in the list: the conversation above or below"), ["↓"]],
    [["1"], say("comparing: answer 1; 2, 3 and 4 likewise")],
    [["T"], say("comparing: a tie")],
    [["B"], say("comparing: all bad")],
    [["Enter"], say("comparing: confirm the choice")],
    [[shift, "Esc"], say("go to the message box")],
    [["?"], say("this list")],
  ];
  const table = element("table", "", element("tbody", "", ...rows.map((row) => line(row))));
  openDialog(say("Keys"), table, footer("", say("Close")));
}

function line([keys, words, other]) {
  const written = (names) => names.flatMap((name, at) => [at ? " " : "", element("kbd", "", name)]);
  const all = other ? [...written(keys), ` ${say("or")} `, ...written(other)] : written(keys);
  return element("tr", "", element("td", "", ...all), element("td", "", words));
}

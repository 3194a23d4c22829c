// A conversation's own system prompt and sampling, in a dialog. What is left empty is as usual.

import { ServerError } from "./api.js";
import { footer, formDialog } from "./dialogs.js";
import { button, element } from "./element.js";
import { say } from "./words.js";

const MOST_WORDS = 20_000;

/** The numbers that can be set: name, words, a hint, and what is usual (serve/chat.py; a test compares). */
const fields = () => [
  ["temperature", say("Temperature"), say("higher: more varied, lower: more certain"), 0.4],
  ["top_p", say("Top-p"), say("draws among the likeliest tokens of this share"), 0.9],
  ["top_k", say("Top-k"), say("draws among so many likeliest tokens; 0: all"), 0],
  ["min_p", say("Min-p"), say("drops what is less likely than this share of the likeliest"), 0],
  ["max_tokens", say("Longest answer, in tokens"), say("a token is about four letters"), 512],
  ["repetition_penalty", say("Repetition penalty"), say("above 1: repeats itself less"), 1],
];

/** Wire the settings' button. `conversation()` is the open one; before its first message they wait in it. */
export function offerSettings(conversation) {
  const button = document.getElementById("settings-open");
  const mark = () => {
    const isOwn = Object.keys(conversation().settings).length > 0;
    button.classList.toggle("differs", isOwn);
    const words = isOwn ? say("Settings: this conversation has its own") : say("Settings of this conversation");
    button.setAttribute("aria-label", words);
    button.title = words;
  };
  const open = () => openSettings(conversation(), mark);
  button.addEventListener("click", open);
  return { open, mark };
}

function openSettings(conversation, done) {
  const system = element("textarea");
  system.rows = 4;
  system.dir = "auto";
  system.maxLength = MOST_WORDS;
  system.value = conversation.settings.system ?? "";
  system.placeholder = say("For example: Answer in one sentence.");
  const inputs = fields().map((field) => [field[0], numberField(conversation.settings, field)]);
  const trouble = element("p", "trouble");
  trouble.setAttribute("role", "alert");
  trouble.hidden = true;
  const usual = button("quiet", say("As usual"), () => {
    for (const field of [system, ...inputs.map(([, one]) => one.input)]) field.value = "";
    system.focus();
  });
  const content = [
    element("p", "small soft", say("They hold for this conversation alone. What is left empty is as usual.")),
    element("label", "field", element("span", "", say("System prompt: how the assistant shall behave")), system),
    element("div", "numbers", ...inputs.map(([, one]) => one.node)),
    trouble,
  ];
  const foot = footer(say("Save"));
  foot.prepend(usual);
  const complain = (sentence) => {
    trouble.textContent = sentence;
    trouble.hidden = false;
    trouble.scrollIntoView({ block: "nearest" });
  };
  const submit = async (dialog) => {
    const wrong = inputs.find(([, { input }]) => input.validity.badInput)?.[1];
    if (wrong) {
      complain(say("This is no number: {name}", { name: wrong.words }));
      wrong.input.focus();
      return;
    }
    const wanted = read(conversation.settings, system, inputs);
    try {
      await conversation.set({ settings: wanted });
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      complain(error.message);
      return;
    }
    done();
    dialog.close("yes");
  };
  const dialog = formDialog(say("Settings of this conversation"), content, foot, submit);
  dialog.classList.add("settings");
  dialog.querySelector("form").noValidate = true; // what is out of range the server says, in a sentence
  system.focus();
}

function numberField(settings, [name, words, hint, usual]) {
  const input = element("input");
  Object.assign(input, { type: "number", step: "any", inputMode: "decimal", name });
  input.value = settings[name] ?? "";
  input.placeholder = say("usual: {value}", { value: usual });
  const note = element("span", "small soft", hint);
  note.id = `about-${name}`;
  input.setAttribute("aria-describedby", note.id);
  return { input, words, node: element("div", "field", element("label", "", element("span", "", words), input), note) };
}

/** The settings as the dialog has them; those that it does not show stay. */
function read(before, system, inputs) {
  const wanted = { ...before };
  const values = inputs.map(([name, { input }]) => [name, input.value === "" ? null : input.valueAsNumber]);
  for (const [name, value] of [["system", system.value.trim() || null], ...values]) {
    if (value === null) delete wanted[name];
    else wanted[name] = value;
  }
  return wanted;
}

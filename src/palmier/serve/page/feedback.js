// Feedback in the chat: comparisons, thumbs and better answers, what each of them did, and the question of consent.

import { annotator, get } from "./api.js";
import { attempt } from "./attempt.js";
import { chat } from "./chat.js";
import { Comparison } from "./compare.js";
import { Question } from "./consent.js";
import { DrawButton } from "./draw-button.js";
import { button, element } from "./element.js";
import { besideAnswers, sentence } from "./fate.js";
import { Given } from "./given.js";
import { follow, notice, title } from "./state.js";
import { Marks } from "./thumbs.js";
import { say } from "./words.js";

const part = (id) => document.getElementById(id);

const marks = new Map(); // a message's number → what can be said of this answer
const told = new Map(); // a message's number → the sentences of what was given to it
let number = null; // the conversation that these belong to
let isOff = false; // whether something given here is not used, for want of consent

const comparison = new Comparison(chat, chosen);
const question = new Question(part("composer"), agreed);
const given = new Given(refresh, async () => {
  await chat.reload();
  await refresh();
});
const drawing = new DrawButton(chat.versions, compareTyped);

/** A conversation is being shown: if it is another one than before, what belongs to that one goes. */
function shown(conversation) {
  if (conversation.id === number) return;
  number = conversation.id;
  comparison.close();
  marks.clear();
  told.clear();
  if (number === null) return;
  refresh();
  if (conversation.compare) comparison.resume(conversation.compare);
}

/** Add to the tools of a stored answer what can be said of it. */
function decorate(message, tools, view) {
  shown(chat.conversation());
  if (!marks.has(message.id)) marks.set(message.id, new Marks(message, number, { given: gave, compare: compareAgain, isBusy: chat.isBusy }));
  const own = marks.get(message.id);
  if (!message.version) view.head.replaceChildren(element("span", "badge", say("Written by a person")));
  own.message = message;
  own.show();
  tools.append(...own.nodes);
  own.holdOn();
  tell(message.id);
}

function tell(message) {
  const sentences = told.get(message) ?? [];
  marks.get(message)?.tell(sentences, isOff && sentences.length ? change() : null);
}

/** The way to consent, beside what is not used without it. */
const change = () => button("quiet", say("Change"), () => given.open());

/** Ask the server what everything that was given in this conversation did, and say it beside the answers. */
async function refresh() {
  const here = number;
  if (here === null) return;
  const items = await attempt(() => get(`/api/feedback/conversations/${here}`, { annotator }));
  if (!items || here !== number) return;
  told.clear();
  isOff = items.some((item) => item.state === "off");
  for (const item of items) {
    for (const [message, text] of besideAnswers(item)) told.set(message, [...(told.get(message) ?? []), text]);
  }
  for (const message of marks.keys()) tell(message);
}

// ── what a person gave ────────────────────────────────────────────────────────────────────

function announce(text) {
  part("said").replaceChildren(element("p", "", text));
}

/** A thumb or a better answer is stored. */
async function gave({ kind, message, fate }) {
  if (kind === "demonstration") {
    await chat.reload();
    marks.get(message)?.write.focus();
  }
  await refresh();
  announce(fate ? sentence(fate) : say("The thumb is taken back."));
  if (fate) await attempt(() => question.ask());
  // The question takes of their room.
  for (const one of marks.values()) one.form?.scrollIntoView({ block: "nearest" });
}

/** A comparison is stored: now its names are told. */
async function chosen({ message, outcome, best, versions, fate }) {
  await refresh();
  chat.composer.focus();
  const names = versions.map((name, at) => ({ name: title(name), isBest: at === best }));
  const version = names.find((one) => one.isBest).name;
  const others = [...new Set(names.filter((one) => !one.isBest).map((one) => one.name))].join(", ");
  const what =
    outcome === "pick"
      ? say("The best answer is of version {version}, the others are of version {others}", { version, others })
      : say("The answers are of version {versions}", { versions: [...new Set(names.map((one) => one.name))].join(", ") });
  announce(say("{what}: {sentence}", { what, sentence: sentence(fate) }));
  await attempt(() => question.ask());
  // Below a long answer what it did would else stay out of sight.
  chat.turnOf(message)?.node.querySelector(".fate:not([hidden])")?.scrollIntoView({ block: "nearest" });
}

async function agreed() {
  await refresh();
  notice(say("“My feedback” shows what becomes of it, and takes it back."));
}

// ── comparisons ───────────────────────────────────────────────────────────────────────────

async function compareTyped() {
  const text = chat.composer.value;
  if (!text.trim()) chat.composer.focus();
  if (!text.trim() || chat.isBusy()) return;
  const { wish } = drawing;
  const asked = await chat.ensureConversation(text);
  if (!asked) return;
  chat.composer.clear();
  await chat.reload();
  await comparison.begin(asked.message, wish);
}

async function compareAgain(message) {
  if (!chat.isBusy()) await comparison.begin(message.parent, drawing.wish);
}

part("composer-tools").append(drawing.node);
part("given-open").addEventListener("click", () => {
  chat.sidebar.toggle(false);
  given.open();
});
Object.assign(chat.actions, { decorate, shown });
if (chat.conversation().id !== null) chat.reload(); // it was there first
follow((state, before) => {
  drawing.refresh();
  if (before && before.current !== state.current) refresh(); // what was given may have made the new version
});

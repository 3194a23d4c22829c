// The chat page: which conversation is open, and what its parts ask of one another.
//
// For what is built beside it (comparing, thumbs, better answers) `chat` is the page:
//   conversation()            the open Conversation (conversation.js): id (null before its first message), tree, settings, compare
//   ensureConversation(text)  stores the text as the next message → {conversation, message} (numbers), or null where it was refused
//   reload(leaf)              load the tree anew from the server and show it, with the branch of message `leaf` where one is given
//   versions                  which versions answer (versions.js): wanted, compared, comparing
//   isBusy()                  whether something is written, or waits for a verdict: nothing else begins then, and who asks is told
//   occupy({stop, isRunning, remind})   be busy: the stop button calls `stop`, and stands there while `isRunning()`;
//                             `remind` says what is open, to who begins something else; returns what ends it
//   turnOf(message)           the Turn (turn.js) of a message of the person, or null
//   composer, sidebar         the message box (#composer-tools stands beside it), the list
//   actions.decorate, actions.shown   hooks: an answer's tools are drawn; the branch was shown

import { address, ServerError } from "./api.js";
import { offerAppearance } from "./appearance.js";
import { attempt } from "./attempt.js";
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { listen } from "./keys.js";
import { offerSettings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { offerStarters } from "./starters.js";
import { follow, notice, start, title } from "./state.js";
import { Transcript } from "./transcript.js";
import { say, translate } from "./words.js";
import { Versions } from "./versions.js";

const part = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search).get("c");

translate();

let conversation = new Conversation();
let occupied = null; // what is open beside an answer that is drawn, as `occupy` was told
let isSending = false;
let isReady = false; // whether the conversation of the address has been opened
let opening = 0; // rises with every conversation that is asked for: the last one is shown
const writing = new Map(); // conversations that are written in, by number: they go on while another one is open

const actions = {
  conversation: () => conversation,
  compared: () => versions.compared,
  isBusy,
  isLast: (turn) => turn === transcript.turns.at(-1),
  again: (message, version) => draw(message.id, wishes(version)),
  goOn: (answer, isAlone) => draw(answer.parent, [{ continue: answer.id, model: answer.version, own_thread: !isAlone }]),
  edit: async (message, text) => {
    const isSent = await send(text, message.parent);
    if (isSent) composer.focus();
    return isSent;
  },
  choose: (message, place) => within(conversation, () => choose(message, place)),
  reload,
  decorate: null,
  shown: null,
};
const versions = new Versions(show);
const transcript = new Transcript(actions);
const composer = new Composer({ send: (text) => send(text), stop });
const sidebar = new Sidebar({ open, current: () => conversation.id, changed: () => reload() });
const settings = offerSettings(() => conversation);

export const chat = {
  conversation: () => conversation,
  ensureConversation,
  reload,
  versions,
  isBusy,
  occupy,
  turnOf: (message) => transcript.find(message),
  composer,
  sidebar,
  actions,
};

function isWriting() {
  return isRunning() || occupied !== null;
}

/** Whether something else has to wait; whoever asked for it is told. */
function isBusy() {
  if (occupied) occupied.remind();
  else if (conversation.isWriting) notice(say("Wait until the answer is written, or stop it."));
  return isWriting(); // while a message is on its way, a second press is the same one
}

/** Whether there is something for the stop button to end. */
function isRunning() {
  return isSending || conversation.isWriting || Boolean(occupied?.isRunning());
}

/** Show the open conversation as it is now. */
function show() {
  if (!isReady) return;
  transcript.show();
  part("welcome").hidden = conversation.tree.size > 0;
  composer.busy(isRunning());
  settings.mark();
  sidebar.mark();
  document.title = conversation.title ? `${conversation.title} · Palmier` : "Palmier";
  history.replaceState(null, "", address("/", { c: conversation.id, compare: versions.compared.join(",") }));
  part("to-rank").href = address("/rank");
  actions.shown?.(conversation);
}

/** Open a stored conversation by its number; null begins a new one. */
async function open(number, isStep = true) {
  const turn = (opening += 1);
  // The open one is looked at anew and stays what it is: what hangs on it, a comparison above all, would be lost with it.
  const isOpen = conversation.id !== null && conversation.id === Number(number);
  const opened = isOpen ? conversation : (writing.get(Number(number)) ?? new Conversation(number));
  if (number !== null && !opened.isWriting) {
    try {
      await opened.load();
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      const isMissing = error.status === 404;
      notice(isMissing ? say("There is no conversation “{number}”: this is a new one.", { number }) : error.message, true);
      return open(null, false);
    }
  }
  if (turn !== opening) return conversation;
  if (isStep && opened.id !== conversation.id) history.pushState(null, "", location.href);
  conversation = opened;
  isReady = true;
  show();
  transcript.toEnd();
  return opened;
}

/** Show the tree as the server knows it. */
async function reload(leaf = null) {
  if (conversation.id === null) return;
  const here = conversation;
  await within(here, () => here.load(leaf));
  if (here === conversation) show();
}

/** Do `work` in the conversation `here`; where it was deleted elsewhere, a new one is begun, with the `text` that was typed. */
function within(here, work, text = "") {
  return attempt(work, async (error) => {
    const isGone = error.status === 404 && here === conversation;
    notice(isGone ? say("This conversation was deleted elsewhere: this is a new one.") : error.message, true);
    if (!isGone) return;
    sidebar.list();
    await open(null, false);
    composer.fill(text);
    composer.focus();
  });
}

/** Store what the person says, after message `parent`, or where the conversation stands; null where it was refused. */
async function store(text, parent = undefined) {
  await loaded; // who is quick may write before the first look at the server is over
  // There is nothing to wait with in an empty box; who presses Enter there is reminded of what is open.
  if ((!text.trim() && !occupied) || isBusy()) return null;
  const here = conversation;
  const put = async () => {
    isSending = true;
    try {
      if (here.isStale) await here.load();
      return await here.add(text, parent === undefined ? here.tree.leaf : parent);
    } finally {
      isSending = false;
    }
  };
  const message = await within(here, put, text);
  if (!message) return null;
  here.title ||= text.trim().replace(/\s+/g, " ").slice(0, 80);
  sidebar.list();
  return { conversation: here.id, message: message.id };
}

async function ensureConversation(text) {
  const stored = await store(text);
  if (stored) show();
  return stored;
}

async function send(text, parent = undefined) {
  const stored = await store(text, parent);
  if (stored && stored.conversation === conversation.id) draw(stored.message, wishes(), true);
  return stored !== null;
}

/** What each answer is to be drawn with: those side by side, or the version that is chosen. */
function wishes(version = null) {
  const names = version ? [version] : versions.wanted;
  return names.map((model) => ({ model, own_thread: versions.comparing }));
}

/** Let a message be answered in the open conversation, once for each wish. */
async function draw(message, wanted, isNew = false) {
  if (isBusy()) return;
  const here = conversation;
  const changed = (answer) => {
    if (here !== conversation) return;
    if (answer) transcript.refresh(answer);
    else show();
  };
  const pressed = document.activeElement;
  const back = transcript.focused();
  const written = here.write(message, wanted, changed);
  if (pressed?.checkVisibility() === false) part("stop").focus(); // what was pressed is gone while it is written
  writing.set(here.id, here);
  if (isNew) transcript.toEnd();
  const answers = await written;
  writing.delete(here.id);
  const isOnStop = document.activeElement === part("stop");
  if (here === conversation && answers.some((answer) => answer.isMissing)) await reload(); // is it the conversation?
  if (here !== conversation) return;
  show();
  if (isOnStop) back?.(); // who has gone elsewhere meanwhile stays there
  const last = answers.at(-1);
  part("said").textContent = last.trouble || say("Version {name} has answered.", { name: title(last.version) });
}

async function choose(message, place) {
  if (isBusy()) return;
  conversation.pending.delete(message.parent);
  await conversation.choose(message);
  transcript.follows = false;
  show();
  const turn = transcript.turns.find((one) => one.asked === message || one.answer === message);
  const where = turn?.asked === message ? turn.question : turn?.grid;
  where?.querySelector(`.${place.replaceAll(" ", ".")}`)?.focus();
}

function occupy(mine) {
  occupied = mine;
  composer.busy(true);
  return () => {
    if (occupied === mine) occupied = null;
    composer.busy(isRunning());
  };
}

function stop() {
  if (occupied) occupied.stop();
  else attempt(() => conversation.stop());
}

function begin() {
  sidebar.toggle(false);
  open(null);
  composer.focus();
}

/** The last answer's button, or the last question's, that a key presses. */
function press(selector) {
  const found = [...part("turns").querySelectorAll(selector)].at(-1);
  found?.click();
  return Boolean(found);
}

listen({
  begin,
  stop: () => (sidebar.isOpen ? sidebar.toggle(false) : isWriting() && stop()),
  search: () => sidebar.search(),
  settings: () => settings.open(),
  write: () => composer.focus(),
  edit: () => transcript.turns.findLast((turn) => turn.asked)?.edit(),
  copy: () => press(".answer .copy"),
  again: () => press(".answer .again"),
});

addEventListener("popstate", () => open(new URLSearchParams(location.search).get("c"), false));
part("new").addEventListener("click", begin);
offerAppearance();
offerStarters((text) => composer.submit(text));
follow((state) => {
  versions.update(state);
  if (state.backend) {
    // What the page says of a small model on this computer would be untrue.
    part("where").textContent = say("Conversations and feedback stay on this computer; {address} answers.", { address: state.backend });
    part("who").textContent = say("The server at {address} answers.", { address: state.backend });
  }
  show();
});
part("welcome").hidden = asked !== null;
const loaded = Promise.all([start(), open(asked, false), sidebar.list()]);
composer.focus();

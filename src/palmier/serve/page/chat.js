// The chat page: conversations, streaming answers, stop, again, side by side.

import { address, annotator, events, get, post, ServerError } from "./api.js";
import { element } from "./markdown.js";
import { follow, notice, start, title } from "./state.js";
import { Answer, Turn } from "./turn.js";
import { Versions } from "./versions.js";

const EXAMPLES = [
  "Write a short e-mail to my landlord: the heating has been broken since Monday.",
  "Write a Python function that returns the largest number in a list.",
  "Explain to a child why the sky is blue.",
];

const part = (id) => document.getElementById(id);
const versions = new Versions(showAll);
let conversation = new URLSearchParams(location.search).get("c") || null; // a number once it is open
let turns = [];
let writing = []; // answers under way: {answer, name}
let generation = 0; // rises when another conversation is opened: late events of the old one are dropped

const actions = {
  again: (turn, version) => (version ? draw(turn, [version], true) : draw(turn, versions.wanted, versions.comparing)),
  conversation: () => conversation,
  isLast: (turn) => turn === turns.at(-1),
};

function showAll() {
  for (const turn of turns) turn.show(versions.compared);
  part("welcome").hidden = turns.length > 0;
  const values = { c: conversation, compare: versions.compared.join(",") };
  history.replaceState(null, "", address("/", values));
  part("to-rank").href = address("/rank");
}

function addTurn(question) {
  const turn = new Turn(question, turns.length, actions);
  turns.push(turn);
  part("turns").append(turn.node);
  return turn;
}

async function open(number) {
  generation += 1;
  stop();
  conversation = number === null ? null : Number(number);
  turns = [];
  part("turns").replaceChildren();
  if (number !== null) {
    try {
      const stored = await get(`/api/conversations/${encodeURIComponent(number)}`);
      for (const message of stored.messages) {
        if (message.role === "user") addTurn(message.content);
        else turns.at(-1)?.add(new Answer(message.content, message.version ?? "", message.finish ?? "stop"));
      }
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      const isMissing = error.status === 404;
      notice(isMissing ? `There is no conversation “${number}”: this is a new one.` : error.message, true);
      conversation = null;
    }
  }
  showAll();
  markChats();
  part("scroll").scrollTop = turns.length ? part("scroll").scrollHeight : 0;
}

async function listChats() {
  const chats = await get("/api/conversations", { annotator });
  const links = chats.map((chat) => {
    const link = element("a", "", chat.title);
    link.href = address("/", { c: chat.id });
    link.dataset.id = chat.id;
    link.addEventListener("click", (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      toggleHistory(false);
      open(chat.id);
    });
    return link;
  });
  part("chats").replaceChildren(...(links.length ? links : [element("p", "small soft", "Nothing here yet.")]));
  markChats();
}

function markChats() {
  for (const link of part("chats").querySelectorAll("a")) {
    if (Number(link.dataset.id) === conversation) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

async function send(text) {
  await loaded; // who is quick may write before the first look at the server is over
  if (writing.length || !text.trim()) return;
  part("text").value = "";
  grow();
  const here = generation;
  const turn = addTurn(text);
  showAll();
  toBottom(true);
  try {
    if (conversation === null) conversation = (await post("/api/conversations", { annotator })).id;
    await post(`/api/conversations/${conversation}/messages`, { content: text });
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    turn.node.remove();
    turns.pop();
    part("text").value = text;
    showAll();
    notice(error.message, true);
    return;
  }
  if (here !== generation) return;
  showAll();
  listChats();
  await draw(turn, versions.wanted, versions.comparing);
}

/** Let each of `names` answer `turn`; null is the current version. */
async function draw(turn, names, ownThread) {
  if (writing.length) return;
  const here = generation;
  const jobs = names.map((name) => ({ answer: turn.add(new Answer("", name ?? "")), name: null, stopped: false }));
  writing = jobs;
  turn.show(versions.compared);
  busy(true);
  await Promise.all(jobs.map((job, place) => write(turn, job, names[place], ownThread)));
  if (here !== generation) return;
  writing = [];
  busy(false);
  for (const other of turns) other.show(versions.compared);
  const last = jobs.at(-1).answer;
  part("said").textContent = last.trouble || `Version ${title(last.version)} has answered.`;
}

async function write(turn, job, version, ownThread) {
  const answer = job.answer;
  const here = generation;
  let planned = false;
  const refresh = () => {
    if (planned) return;
    planned = true;
    requestAnimationFrame(() => {
      planned = false;
      if (here !== generation || !turn.views.has(answer)) return;
      turn.refresh(answer, versions.compared);
      toBottom(false);
    });
  };
  try {
    const wish = { model: version, own_thread: ownThread };
    for await (const event of events(`/api/conversations/${conversation}/answers`, wish)) {
      if (event.type === "start") {
        job.name = event.answer;
        answer.version = event.version;
        if (job.stopped) halt(job);
      } else if (event.type === "text") answer.text += event.text;
      else if (event.type === "end") Object.assign(answer, event);
      else answer.trouble = event.message;
      refresh();
    }
    if (!answer.done) answer.finish = "cancelled";
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    answer.trouble = error.message;
  }
  if (here === generation) {
    turn.refresh(answer, versions.compared);
    toBottom(false);
  }
}

function halt(job) {
  job.stopped = true;
  if (job.name) post(`/api/answers/${job.name}/stop`).catch((error) => notice(error.message, true));
}

function stop() {
  for (const job of writing) halt(job);
  writing = [];
  busy(false);
}

function busy(isBusy) {
  const focused = [part("send"), part("stop")].includes(document.activeElement);
  part("send").hidden = isBusy;
  part("stop").hidden = !isBusy;
  if (focused) part(isBusy ? "stop" : "text").focus();
}

/** Keep the newest line in sight, unless the reader has scrolled up. */
function toBottom(always) {
  const box = part("scroll");
  if (always || box.scrollHeight - box.scrollTop - box.clientHeight < 120) box.scrollTop = box.scrollHeight;
}

function grow() {
  const text = part("text");
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight}px`;
}

function toggleHistory(isOpen) {
  document.body.classList.toggle("history-open", isOpen);
  part("veil").hidden = !isOpen;
  part("history-open").setAttribute("aria-expanded", String(isOpen));
  if (isOpen) part("history-close").focus();
  else if (part("history").contains(document.activeElement)) part("history-open").focus();
}

part("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send(part("text").value);
});
part("text").addEventListener("input", grow);
part("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send(part("text").value);
});
part("stop").addEventListener("click", () => {
  for (const job of writing) halt(job);
});
part("new").addEventListener("click", () => {
  toggleHistory(false);
  open(null);
  part("text").focus();
});
part("history-open").addEventListener("click", () => toggleHistory(true));
part("history-close").addEventListener("click", () => toggleHistory(false));
part("veil").addEventListener("click", () => toggleHistory(false));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !part("veil").hidden) toggleHistory(false);
});

part("examples").append(
  ...EXAMPLES.map((text) => {
    const button = element("button", "", text);
    button.addEventListener("click", () => send(text));
    return button;
  }),
);

follow((state) => {
  versions.update(state);
  for (const turn of turns) turn.show(versions.compared);
});
const loaded = start().then(() => Promise.all([open(conversation), listChats()]));
part("text").focus();

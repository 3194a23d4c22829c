// The ranking page: a request, its answers, an order, saved.

import { address, annotator, events, get, post, recall, remember, remove, ServerError } from "./api.js";
import { attempt } from "./attempt.js";
import { Cards } from "./cards.js";
import { Clock } from "./clock.js";
import { directed, element } from "./element.js";
import { Order } from "./order.js";
import { showConsent, showCounts } from "./person.js";
import { notice, start, title } from "./state.js";
import { language, say, translate } from "./words.js";

const part = (id) => document.getElementById(id);
const KEPT = `rank.${annotator}`; // the order so far, in this browser
const SKIPPED = say("Skipped: nothing was stored.");
const SKIPPED_SECONDS = 4; // the next request stands there: what became of the last one is soon no news
const WISHES = `rank-wishes.${annotator}`; // number of answers, going on by itself, place in the suggestions

const clock = new Clock(keep);
const cards = new Cards(part("order"), (sentence) => {
  touched = true;
  ask(false);
  tell("");
  part("said").textContent = sentence;
  keep();
});
let draw = null;
let given = null; // the conversation of a suggestion or of a chat, while its text is unchanged
let touched = false;
let asked = false; // whether the order shown is right although nothing was moved: asked once only
let isSaving = false;
let flow = 0; // rises with everything a person begins: what an earlier wish still brings is not shown then
const wishes = { k: 4, auto: true, suggested: false, place: 0, ...recall(WISHES) };

function keep() {
  if (!draw || !cards.order) return;
  const { sequence, tied } = cards.order;
  const allBad = part("bad").getAttribute("aria-pressed") === "true";
  remember(KEPT, { id: draw.id, revision: draw.revision, sequence, tied, allBad, touched, spent: clock.spent });
}

function wish(values) {
  Object.assign(wishes, values);
  remember(WISHES, wishes);
}

// ── asking ──────────────────────────────────────────────────────────────────────────────

function showAsk(messages, sentence) {
  given = messages;
  part("prompt").value = messages?.at(-1).content ?? "";
  part("context").textContent = sentence;
  part("context").hidden = !sentence;
  showPart("ask");
  draw = null;
  clock.stop();
}

/** Where a suggestion comes from. */
const SOURCES = {
  prompts: () => say("A suggestion out of this home's prompts. You may change it."),
  chat: () => say("A suggestion out of your own chats. You may change it."),
  examples: () => say("A suggestion out of our examples. You may change it."),
};

async function suggest() {
  const mine = flow;
  const found = await get("/api/rank/prompt", { annotator, place: wishes.place });
  if (mine !== flow) return;
  wish({ place: found.place + 1 });
  showAsk(found.messages, SOURCES[found.source]());
}

async function begin(mine = ++flow) {
  const text = part("prompt").value;
  const isGiven = given !== null && given.at(-1).content === text;
  wish({ suggested: isGiven }); // after a request of one's own, the page does not go on by itself
  const what = isGiven ? { messages: given } : { prompt: text };
  part("draw").disabled = true;
  const begun = await attempt(() => post("/api/rank/draws", { ...what, annotator, n: wishes.k, wait: false }));
  part("draw").disabled = false;
  if (begun && mine === flow) await work(begun);
}

// ── ranking ─────────────────────────────────────────────────────────────────────────────

/** Show a draw, follow it while it is being written, and let the person order it. */
async function work(found) {
  draw = found;
  touched = false;
  ask(false);
  untell(SKIPPED);
  const here = draw.id;
  showPart("work");
  part("confirm").disabled = true;
  part("bad").disabled = true;
  setBad(draw.all_bad);
  showRequest(draw.messages);
  cards.begin(draw, new Order(draw.shown));
  cards.fill(draw);
  showHow(false);
  if (draw.state === "drawing") {
    await attempt(async () => {
      for await (const event of events(`/api/rank/draws/${here}/events`)) {
        if (draw?.id !== here) return;
        if (event.state === "gone") throw new ServerError(event.problem);
        draw = event;
        cards.fill(draw);
        showDrawing(event);
      }
    });
  }
  if (draw?.id !== here) return;
  if (draw.problem || draw.state !== "ready") {
    notice(draw.problem || say("The answers could not be drawn."), true);
    showAsk(draw.messages, "");
    return;
  }
  ready();
}

function showPart(name) {
  part("ask").hidden = name !== "ask";
  part("work").hidden = part("choose").hidden = name !== "work";
}

function showDrawing(state) {
  const done = state.answers.filter((answer) => answer.finish !== null).length;
  const values = { version: title(state.version), done, count: state.shown.length };
  part("drawing").textContent = say("Version {version} is writing: {done} of {count} answers are ready.", values);
}

/** How to rank, or how far the drawing is. */
function showHow(isReady) {
  part("how").classList.toggle("unseen", !isReady);
  part("drawing").classList.toggle("unseen", isReady);
  if (isReady) part("drawing").textContent = say("The answers are ready.");
}

function ready() {
  const kept = recall(KEPT);
  if (kept && kept.id === draw.id && kept.revision === draw.revision) {
    cards.order = new Order(kept.sequence, kept.tied);
    touched = kept.touched;
    setBad(kept.allBad);
    clock.start(kept.spent);
  } else {
    if (draw.ranks.length) cards.order = Order.fromRanks(draw.ranks, draw.shown);
    touched = draw.ranks.length > 0;
    clock.start(0);
  }
  cards.arrange();
  cards.enable();
  showHow(true);
  part("confirm").disabled = false;
  part("bad").disabled = false;
  part("order").firstElementChild.focus({ preventScroll: true });
  keep();
}

const WHO = { system: () => say("Instructions"), user: () => say("You"), assistant: () => say("Answer") };

function showRequest(messages) {
  const before = messages.slice(0, -1).map((message) => {
    return element("p", "said-before", `${WHO[message.role]()}: `, element("bdi", "", message.content));
  });
  part("request").replaceChildren(...before, directed(element("p", "", messages.at(-1).content)));
}

function setBad(isBad) {
  part("bad").setAttribute("aria-pressed", String(isBad));
}

async function confirm() {
  if (!draw || part("confirm").disabled || isSaving) return;
  const allBad = part("bad").getAttribute("aria-pressed") === "true";
  if (!touched && !allBad && !asked) {
    ask(true);
    tell(say("Nothing was moved. If the best stands on top as it is, press “Yes, as it is”."), "warn");
    return;
  }
  isSaving = true;
  part("confirm").disabled = true;
  tell(say("Saving …"));
  const order = { annotator, draw: draw.id, ranks: cards.order.ranks(), all_bad: allBad, milliseconds: clock.spent };
  try {
    const saved = await post("/api/rank/rankings", order);
    remember(KEPT, null);
    tell(say("Saved as your ranking number {count}.", { count: saved.count }));
    showCounts(saved);
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    tell(say("Not saved: {problem} Confirm again.", { problem: error.message }), "bad");
    part("confirm").disabled = false;
    return;
  } finally {
    isSaving = false;
  }
  await next();
}

/** After a ranking or a skip: what waits still, or the next suggestion, drawn by itself where that is wanted. */
async function next() {
  const mine = ++flow;
  const waiting = await attempt(() => get("/api/rank", { annotator }));
  if (mine !== flow) return;
  if (waiting?.draw) {
    await work(waiting.draw);
    return;
  }
  const goesOn = wishes.auto && wishes.suggested;
  await attempt(suggest);
  if (mine !== flow) return;
  if (goesOn) await begin(mine);
  else part("prompt").focus();
}

async function skip() {
  if (!draw || isSaving) return;
  const name = draw.id;
  await attempt(() => remove(`/api/rank/draws/${name}`));
  remember(KEPT, null);
  tell(SKIPPED);
  await next();
  setTimeout(() => untell(SKIPPED), SKIPPED_SECONDS * 1000);
}

async function undo() {
  if (isSaving) return;
  const mine = ++flow;
  const answer = await attempt(() => post("/api/rank/undo", { annotator }));
  if (!answer || mine !== flow) return;
  showCounts(answer);
  if (!answer.undone) tell(say("There is no ranking to undo."));
  else if (answer.draw) {
    tell(say("The last ranking is undone: here it is again."));
    await work(answer.draw);
  } else tell(say("The last ranking is undone."));
}

/** Say what became of the last ranking. */
function tell(sentence, mood = "") {
  part("saved").textContent = sentence;
  part("saved").className = `small ${mood}`;
}

/** Take `sentence` back where it still stands. */
function untell(sentence) {
  if (part("saved").textContent === sentence) tell("");
}

/** Whether the next press of Confirm says yes to an order that nobody touched: its words tell. */
function ask(isAsked) {
  asked = isAsked;
  part("confirm").textContent = isAsked ? say("Yes, as it is") : say("Confirm order");
}

// ── the page ────────────────────────────────────────────────────────────────────────────

const KEYS = { Enter: confirm, b: () => part("bad").click(), s: skip, u: undo, "?": () => part("help").showModal() };

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("textarea, select, dialog, input, button, a, summary");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
part("confirm").addEventListener("click", confirm);
part("skip").addEventListener("click", skip);
part("undo").addEventListener("click", undo);
part("help-open").addEventListener("click", () => part("help").showModal());
part("bad").addEventListener("click", () => {
  setBad(part("bad").getAttribute("aria-pressed") !== "true");
  if (asked) tell("");
  ask(false);
  keep();
});
part("suggest").addEventListener("click", () => {
  flow += 1;
  attempt(suggest);
});
part("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  begin();
});
part("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  begin();
});
part("k").append(...[2, 3, 4, 5, 6, 7, 8, 9].map((k) => new Option(String(k), String(k))));
part("k").value = String(wishes.k);
part("k").addEventListener("change", () => wish({ k: Number(part("k").value) }));
part("auto").checked = wishes.auto;
part("auto").addEventListener("change", () => wish({ auto: part("auto").checked }));
for (const id of ["to-chat", "to-chat-too"]) part(id).href = address("/");
part("who").textContent = annotator ? say("Ranking as {name}", { name: annotator }) : "";

document.title = `${say("Rank answers")} · Palmier`;
translate();
await start();
await attempt(async () => {
  const person = await get("/api/rank", { annotator, language });
  showConsent(person);
  showCounts(person);
  const query = new URLSearchParams(location.search);
  const chat = encodeURIComponent(query.get("conversation") ?? "");
  const turn = query.get("turn") ?? -1;
  const found = chat && (await attempt(() => get(`/api/rank/conversations/${chat}`, { turn })));
  history.replaceState(null, "", address("/rank"));
  if (found) {
    showAsk(found.messages, found.messages.length > 1 ? say("With the conversation before it.") : "");
    part("draw").focus();
  } else if (person.draw) await work(person.draw);
  else await suggest();
});

// Answers side by side, without names, and what a person says of them: the best one, a tie, or all bad.

import { button, directed, element } from "./element.js";
import { update } from "./markdown.js";
import { say } from "./words.js";

const FINISH = { length: () => say("cut off"), cancelled: () => say("stopped") };

/** Each strength as the server takes it, in words for people. */
const STRENGTHS = {
  slight: () => say("Slightly better"),
  clear: () => say("Clearly better"),
  strong: () => say("Much better"),
};

/** A draw's answers as cards, in the order that it is shown in. `choose(verdict)` and `cancel()` are what can be done. */
export class Candidates {
  /** `question`: what is answered, where it does not stand right above. */
  constructor(draw, question, actions) {
    Object.assign(this, { actions, shown: draw.shown, isReady: false, verdict: null, strength: null });
    this.status = element("p", "small soft", "");
    this.status.setAttribute("role", "status");
    this.cards = draw.shown.map((answer, at) => this.card(answer, at));
    this.grid = element("div", "candidates", ...this.cards.map((card) => card.node));
    this.tie = keyed("t", say("Tie"), (event) => this.pointed(event, "tie"));
    this.bad = keyed("b", say("All bad"), (event) => this.pointed(event, "all_bad"));
    const verdicts = element("div", "buttons", this.tie, this.bad);
    this.heading = element("h2", "", say("Which answer is better?"));
    this.heading.id = "comparison-title";
    const quoted = question ? [directed(element("p", "quoted", question))] : [];
    this.node = element("section", "comparison", this.heading, ...quoted, this.status, this.grid, verdicts);
    this.node.append(this.details(), this.ending());
    this.node.setAttribute("aria-labelledby", this.heading.id);
    this.node.tabIndex = -1;
    this.fill(draw);
    this.mark();
  }

  /** `answer` is the index in the draw's own order, `at` the place on the screen. */
  card(answer, at) {
    const label = say("Answer {number}", { number: at + 1 });
    const why = element("span", "why");
    const prose = element("div", "prose waiting");
    const pick = keyed(String(at + 1), say("This one is best"), (event) => this.pointed(event, "pick", answer));
    pick.prepend(element("kbd", "keys", String(at + 1)));
    const head = element("header", "", element("h3", "", label), why);
    const node = element("article", "candidate", head, prose, pick);
    node.setAttribute("aria-label", label);
    pick.setAttribute("aria-label", say("Answer {number} is best", { number: at + 1 }));
    return { answer, node, why, prose, pick, text: null, finish: null };
  }

  /** How much better, and why: neither has to be told. */
  details() {
    this.strengths = Object.entries(STRENGTHS).map(([strength, words]) => {
      const one = button("", words(), () => {
        this.strength = this.strength === strength ? null : strength;
        this.mark();
      });
      one.dataset.strength = strength;
      return one;
    });
    this.how = element("div", "segments", ...this.strengths);
    this.how.setAttribute("role", "group");
    this.how.setAttribute("aria-label", say("How much better (if you like)"));
    this.reason = element("input");
    this.reason.maxLength = 2000;
    this.reason.dir = "auto";
    this.reason.placeholder = say("Why? (if you like)");
    this.reason.setAttribute("aria-label", say("Why? (if you like)"));
    this.reason.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.isComposing) this.confirm();
    });
    return element("div", "verdict", this.how, this.reason);
  }

  ending() {
    this.done = keyed("Enter", say("Confirm"), () => this.confirm());
    this.done.classList.add("primary");
    const cancel = button("quiet", say("Cancel"), () => this.actions.cancel());
    cancel.title = say("Nothing is stored, and the answers are thrown away");
    this.trouble = element("p", "small bad-text", "");
    this.trouble.setAttribute("role", "alert");
    return element("div", "buttons", this.done, cancel, this.trouble);
  }

  /** Show what has been written so far, or all of it. */
  fill(draw) {
    for (const card of this.cards) {
      const { text = "", finish = null } = draw.answers[card.answer] ?? {};
      card.why.textContent = FINISH[finish]?.() ?? "";
      card.prose.classList.toggle("waiting", finish === null && !text);
      if (card.text === text && card.finish === finish) continue;
      Object.assign(card, { text, finish });
      update(card.prose, text);
      if (finish !== null && !text.trim()) card.prose.append(element("p", "soft", say("(It said nothing.)")));
    }
    const done = draw.answers.filter((answer) => answer.finish !== null).length;
    if (draw.state === "drawing") {
      this.status.textContent = say("The answers are being written: {done} of {count} are ready.", { done, count: draw.shown.length });
    }
  }

  /** All answers are there: now one can be chosen. */
  ready() {
    this.isReady = true;
    this.status.textContent = say("Whose answer is whose is told afterwards.");
    const keys = say("Keys: 1 to {count} pick, T is a tie, B is all bad, Enter confirms.", { count: this.shown.length });
    this.status.append(" ", element("span", "keys", keys));
    this.mark();
  }

  pick(outcome, answer = null) {
    if (!this.isReady) return;
    this.verdict = { outcome, pick: answer };
    if (answer === null) this.strength = null;
    this.mark();
  }

  /** A button was pressed: after the mouse, Enter confirms; after Enter it is not asked twice by a key held down. */
  pointed(event, outcome, answer = null) {
    this.pick(outcome, answer);
    if (event.detail > 0) this.done.focus({ preventScroll: true });
  }

  mark() {
    for (const card of this.cards) {
      const isBest = this.verdict?.pick === card.answer;
      card.pick.disabled = !this.isReady;
      card.pick.setAttribute("aria-pressed", String(isBest));
      card.node.classList.toggle("best", isBest);
    }
    for (const [one, outcome] of [[this.tie, "tie"], [this.bad, "all_bad"]]) {
      one.disabled = !this.isReady;
      one.setAttribute("aria-pressed", String(this.verdict?.outcome === outcome));
    }
    for (const one of this.strengths) {
      one.setAttribute("aria-pressed", String(one.dataset.strength === this.strength));
    }
    this.how.hidden = this.verdict?.outcome !== "pick";
    this.reason.hidden = this.verdict === null;
    this.done.disabled = this.verdict === null;
  }

  async confirm() {
    if (this.verdict === null || this.isSaving) return;
    this.isSaving = true;
    this.trouble.textContent = "";
    const trouble = await this.actions.choose({ ...this.verdict, strength: this.strength, reason: this.reason.value.trim() });
    this.isSaving = false;
    if (trouble) this.trouble.textContent = say("Not saved: {problem} Confirm again.", { problem: trouble });
  }

  /** A key that was pressed anywhere on the page; true where it did something. */
  key(key) {
    const place = Number(key) - 1;
    if (key.toLowerCase() === "t") this.pick("tie");
    else if (key.toLowerCase() === "b") this.pick("all_bad");
    else if (this.shown[place] !== undefined) this.pick("pick", this.shown[place]);
    else return false;
    // The button that has the focus would take the Enter that is to confirm, and choose its own answer again.
    if (this.node.contains(document.activeElement)) this.done.focus({ preventScroll: true });
    return true;
  }
}

/** A button that `key` presses too. */
function keyed(key, text, action) {
  const node = button("", text, action);
  node.setAttribute("aria-keyshortcuts", key);
  return node;
}

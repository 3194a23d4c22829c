// What can be said of one answer: a thumb, with a reason where it points down, and a better answer in its place.

import { annotator, post } from "./api.js";
import { attempt } from "./attempt.js";
import { button, element } from "./element.js";
import { icon } from "./icons.js";
import { say } from "./words.js";

const LONGEST_REASON = 2000;
const LONGEST_ANSWER = 200_000;

/** The most usual complaints: one press writes them down. */
const COMPLAINTS = [
  () => say("Not true"),
  () => say("Not what I asked for"),
  () => say("Too long"),
  () => say("Badly written"),
];

/** The buttons and forms of one stored answer; they stay the same elements however often its tools are drawn. */
export class Marks {
  /**
   * `given(outcome)` is called when the server has stored something; `compare(message)` when Compare is pressed;
   * `isBusy()` tells whether something else is being written, and says so.
   */
  constructor(message, conversation, { given, compare, isBusy }) {
    Object.assign(this, { message, conversation, given, isBusy, form: null });
    this.up = this.thumb(true, say("Good answer"));
    this.down = this.thumb(false, say("Bad answer"));
    this.write = button("quiet write-better", say("Write better"), () => this.writeBetter());
    this.write.title = say("Write the answer that you would have liked: it joins the conversation");
    this.compare = button("quiet compare-again", say("Compare"), () => compare(this.message));
    this.compare.title = say("Draw several answers to the same message, and pick the best one");
    this.told = element("ul", "fate");
    this.told.hidden = true;
    this.below = element("div", "given-here", this.told);
    this.held = null; // what has the focus below the answer, until something else is gone to
    this.below.addEventListener("focusin", (event) => (this.held = event.target));
    document.addEventListener("pointerdown", (event) => this.leave(event));
    document.addEventListener("focusin", (event) => this.leave(event));
    this.show();
  }

  leave(event) {
    if (!this.below.contains(event.target)) this.held = null;
  }

  /** The answer is drawn anew around what is written below it: the focus goes on being there. */
  holdOn() {
    const { held } = this;
    if (held) queueMicrotask(() => held.isConnected && held.focus({ preventScroll: true })); // then the row is in its place
  }

  /** What belongs into the row of tools, and below it. */
  get nodes() {
    return [this.up, this.down, this.write, this.compare, this.below];
  }

  thumb(good, label) {
    const node = button(good ? "quiet thumb" : "quiet thumb down", "", () => this.press(good));
    node.append(icon("up"));
    node.setAttribute("aria-label", label);
    node.title = label;
    return node;
  }

  show() {
    this.up.setAttribute("aria-pressed", String(this.message.good === true));
    this.down.setAttribute("aria-pressed", String(this.message.good === false));
  }

  /** What each thing that was given here did; `change` leads to consent where it is off. */
  tell(sentences, change) {
    this.told.replaceChildren(...sentences.map((text) => element("li", "", text)));
    this.told.hidden = sentences.length === 0;
    if (change) this.told.lastChild?.append(" ", change);
  }

  /** A press on the thumb that is up already takes it back. */
  async press(good) {
    const wanted = this.message.good === good ? null : good;
    if (!(await this.label(wanted))) return;
    if (wanted === false) this.askWhy();
    else this.closeForm();
  }

  async label(good, reason = "") {
    const body = { annotator, conversation: this.conversation, message: this.message.id, good, reason };
    const stored = await attempt(() => post("/api/feedback/labels", body));
    if (!stored) return false;
    this.message.good = good;
    this.show();
    this.given({ kind: "label", good, fate: stored.fate });
    return true;
  }

  /** Offer to say what was bad; the thumb itself is stored already. */
  askWhy() {
    const field = element("input");
    field.maxLength = LONGEST_REASON;
    field.dir = "auto";
    field.setAttribute("aria-label", say("What was bad about it? (if you like)"));
    field.placeholder = say("What was bad about it? (if you like)");
    const usual = COMPLAINTS.map((words) => button("quiet complaint", words(), () => send(words())));
    const submit = element("button", "", say("Send"));
    const close = button("quiet", say("Close"), () => this.closeForm());
    const form = element("form", "why-bad", element("div", "complaints", ...usual), field, submit, close);
    const send = async (reason) => {
      if (!reason) this.closeForm();
      else if (await this.label(false, reason)) this.closeForm();
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send(field.value.trim());
    });
    this.open(form, this.down);
  }

  /** Let a better answer be written, beginning with this one. */
  writeBetter() {
    if (this.form?.classList.contains("better")) {
      this.form.querySelector("textarea").focus();
      return;
    }
    if (this.isBusy()) return;
    const text = element("textarea");
    text.value = this.message.content;
    text.maxLength = LONGEST_ANSWER;
    text.dir = "auto";
    text.rows = Math.min(16, Math.max(4, this.message.content.split("\n").length + 2));
    text.setAttribute("aria-label", say("The better answer"));
    const hint = element("span", "small soft", say("It becomes another answer here, and the conversation goes on from it."));
    const save = element("button", "primary", say("Keep this answer"));
    const cancel = button("", say("Cancel"), () => this.closeForm());
    const form = element("form", "better", text, element("div", "buttons", hint, cancel, save));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.sendBetter(text, save);
    });
    text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      form.requestSubmit();
    });
    this.open(form, this.write);
    text.focus();
  }

  async sendBetter(text, save) {
    const better = text.value;
    if (!better.trim() || better === this.message.content) {
      text.focus();
      return;
    }
    if (this.isBusy()) return;
    save.disabled = true;
    const body = { annotator, conversation: this.conversation, message: this.message.id, text: better };
    const stored = await attempt(() => post("/api/feedback/demonstrations", body));
    save.disabled = false;
    if (!stored) return;
    this.closeForm();
    this.given({ kind: "demonstration", message: stored.message, fate: stored.fate });
  }

  /** Show a form below the answer; Escape closes it, and `opener` has the focus again. */
  open(form, opener) {
    this.closeForm();
    this.form = form;
    this.opener = opener;
    form.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.closeForm();
    });
    this.below.append(form);
    form.scrollIntoView({ block: "nearest" });
  }

  closeForm() {
    const held = this.form?.contains(document.activeElement);
    this.form?.remove();
    this.form = null;
    if (held) this.opener.focus();
  }
}

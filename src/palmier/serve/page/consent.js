// Consent: the question in its words, asked once, after the first thing somebody gave; off until it is answered.

import { annotator, get, post, recall, remember } from "./api.js";
import { attempt } from "./attempt.js";
import { element } from "./element.js";
import { language, say } from "./words.js";

const CLOSED = `consent-closed.${annotator}`; // the wording whose question was put away here without an answer

/** A person's consent and what was given, with the question's words as they are read here. */
export const overview = () => get("/api/feedback", { annotator, language });

/** Store the answer to the words that `shown` (an overview) told; returns the overview after it. */
export function answer(shown, granted) {
  return post("/api/feedback/consent", { annotator, granted, language, wording: shown.today });
}

/** The question as a card. It takes no focus and hides nothing: what was given is given. */
export class Question {
  /** `place` is the element that the card stands before; `answered(overview)` is called after an answer. */
  constructor(place, answered) {
    Object.assign(this, { place, answered, shown: null, node: null, closed: 0 });
  }

  /** Ask where the question was not answered in today's words; once: whoever puts it away finds it in “My feedback”. */
  async ask() {
    const { closed } = this;
    const shown = await overview();
    if (closed !== this.closed) return; // while it was looked up, the question was answered or put away
    if (shown.asked) this.close();
    else if (!this.node && recall(CLOSED) !== shown.today) this.show(shown);
  }

  show(shown) {
    this.shown = shown;
    const heading = element("h2", "", say("May your feedback be used for training?"));
    heading.id = "question-title";
    const yes = element("button", "primary", say("Yes, use it"));
    const no = element("button", "", say("No, only keep it"));
    const later = element("button", "quiet", say("Not now"));
    yes.addEventListener("click", () => this.reply(true));
    no.addEventListener("click", () => this.reply(false));
    later.addEventListener("click", () => {
      remember(CLOSED, shown.today);
      this.close();
    });
    const buttons = element("div", "buttons", yes, no, later);
    const words = element("p", "", shown.words);
    this.node = element("section", "consent-question", heading, words, buttons);
    this.node.setAttribute("aria-labelledby", heading.id);
    this.place.before(this.node);
    if (words.scrollHeight > words.clientHeight) words.tabIndex = 0; // so that the keys can scroll it
    document.getElementById("said").textContent = say("There is a question about your feedback above the message box.");
  }

  async reply(granted) {
    const now = await attempt(() => answer(this.shown, granted));
    if (!now) return;
    this.close();
    this.answered(now);
  }

  /** Take the card away; where it held the focus, that goes on to the message box. */
  close() {
    const held = this.node?.contains(document.activeElement);
    this.node?.remove();
    this.node = null;
    this.closed += 1;
    if (held) document.getElementById("text")?.focus();
  }
}

// Consent: the question in its words, asked once, after the first thing somebody gave; off until it is answered.

import { annotator, get, post, recall, remember } from "./api.js";
import { attempt } from "./attempt.js";
import { openDialog } from "./dialogs.js";
import { button, element } from "./element.js";
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
    Object.assign(this, { place, answered, shown: null, node: null, dialog: null, closed: 0 });
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
    this.node = element("section", "consent-question", heading, element("p", "", shown.words), this.answers());
    this.node.setAttribute("aria-labelledby", heading.id);
    this.place.before(this.node);
    if (this.node.scrollHeight > this.node.clientHeight) this.fold(heading);
    // Beside what was said of the feedback itself, which is still being read out.
    const asks = element("p", "", say("There is a question about your feedback above the message box."));
    document.getElementById("said").append(asks);
  }

  answers() {
    const yes = button("primary", say("Yes, use it"), () => this.reply(true));
    const no = button("", say("No, only keep it"), () => this.reply(false));
    return element("div", "buttons", yes, no, this.later());
  }

  later() {
    return button("quiet", say("Not now"), () => {
      remember(CLOSED, this.shown.today);
      this.close();
    });
  }

  /** Where there is no room for all of the words they are read in a dialog: nobody answers to half of them. */
  fold(heading) {
    const read = button("", say("Read the question"), () => this.open(heading.textContent));
    this.node.classList.add("folded");
    this.node.replaceChildren(heading, element("div", "buttons", read, this.later()));
  }

  open(title) {
    const words = element("p", "", this.shown.words);
    words.tabIndex = -1;
    words.autofocus = true; // not the first button, which stands below them
    this.dialog = openDialog(title, words, this.answers());
    this.dialog.classList.add("asking");
    this.dialog.scrollTop = 0; // with the focus it went down to their end
  }

  async reply(granted) {
    const now = await attempt(() => answer(this.shown, granted));
    if (!now) return;
    this.close();
    this.answered(now);
  }

  /** Take the card away; where it held the focus, that goes on to the message box. */
  close() {
    this.dialog?.close();
    this.dialog = null;
    const held = this.node?.contains(document.activeElement);
    this.node?.remove();
    this.node = null;
    this.closed += 1;
    if (held) document.getElementById("text")?.focus();
  }
}

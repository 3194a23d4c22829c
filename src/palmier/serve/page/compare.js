// Compare: draw several answers to one message, watch them being written, and say which one is better.

import { annotator, events, get, post, recall, remember, remove, ServerError } from "./api.js";
import { attempt } from "./attempt.js";
import { Candidates } from "./candidates.js";
import { Clock } from "./clock.js";
import { notice } from "./state.js";
import { say } from "./words.js";

const KEPT = `compare.${annotator}`; // the draw that is looked at, and for how long: a reload goes on from there
const AGAIN_SECONDS = 2; // after a broken connection

const part = (id) => document.getElementById(id);

/** The comparison that is open, if one is: below the message that its answers answer. Nothing else is written meanwhile. */
export class Comparison {
  /** `chat` is the page (chat.js); `chosen(answer)` is called when a verdict is stored and the conversation shows it. */
  constructor(chat, chosen) {
    Object.assign(this, { chat, chosen, draw: null, view: null, release: null });
    this.clock = new Clock(() => this.keep());
    document.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("keydown", (event) => this.keepOpen(event), true);
  }

  get isOpen() {
    return this.draw !== null;
  }

  keep() {
    if (this.draw && this.clock.running) remember(KEPT, { id: this.draw.id, spent: this.clock.spent });
  }

  /** Draw answers to message `to` of the open conversation: `wish` is {n, model, against}. */
  async begin(to, wish) {
    const here = this.chat.conversation();
    const body = { annotator, to, wait: false, ...wish };
    const draw = await attempt(() => post(`/api/conversations/${here.id}/comparisons`, body), async (error) => {
      if (error.status === 404) await this.chat.reload(); // is it the conversation? Then a new one is begun, and that is said
      if (here === this.chat.conversation()) notice(error.message, true);
    });
    if (draw && here === this.chat.conversation()) await this.show(draw, true);
  }

  /** Go on with a draw that waits to be judged. */
  async resume(name) {
    const here = this.chat.conversation();
    const draw = await attempt(() => get(`/api/rank/draws/${name}`));
    if (draw && !this.isOpen && here === this.chat.conversation()) await this.show(draw, false);
  }

  /** Open a draw, and follow it while it is being written. The focus goes there where a person asked for it. */
  async show(draw, isAsked) {
    this.close();
    this.draw = draw;
    // Answers that are there are thrown away by Cancel alone.
    this.release = this.chat.occupy({
      stop: () => this.cancel(),
      isRunning: () => !this.view?.isReady,
      remind: () => this.remind(),
    });
    const turn = this.chat.turnOf(draw.message);
    const question = turn ? "" : draw.messages.at(-1).content;
    this.view = new Candidates(draw, question, { choose: (verdict) => this.choose(verdict), cancel: () => this.cancel() });
    if (turn) turn.below.append(this.view.node);
    else part("turns").after(this.view.node);
    if (isAsked) this.view.node.focus({ preventScroll: true });
    this.view.node.scrollIntoView({ block: "nearest" });
    if (draw.state === "drawing") await this.follow(draw.id);
    if (this.draw?.id !== draw.id) return;
    if (this.draw.problem || this.draw.state !== "ready") {
      notice(this.draw.problem || say("The answers could not be drawn."), true);
      await this.leave();
      return;
    }
    this.view.fill(this.draw);
    this.view.ready();
    this.chat.composer.busy(false);
    const kept = recall(KEPT);
    this.clock.start(kept?.id === draw.id ? kept.spent : 0);
  }

  /** Watch until all answers are written, the draw is gone, or another one is shown. */
  async follow(name) {
    while (this.draw?.id === name && this.draw.state === "drawing") {
      try {
        for await (const event of events(`/api/rank/draws/${name}/events`)) {
          if (this.draw?.id !== name) return;
          this.draw = { ...this.draw, ...event };
          if (event.state !== "gone") this.view.fill(event);
        }
      } catch (error) {
        if (!(error instanceof ServerError)) throw error;
        if (this.draw?.id !== name) return;
        if (error.status) Object.assign(this.draw, { state: "gone", problem: error.message });
        else await new Promise((done) => setTimeout(done, AGAIN_SECONDS * 1000));
      }
    }
  }

  /** Store a verdict. Returns what went wrong, in words for people; null where it is stored. */
  async choose(verdict) {
    const { id, message, shown } = this.draw;
    let stored;
    try {
      stored = await post(`/api/comparisons/${id}`, { annotator, ...verdict, milliseconds: this.clock.spent });
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      return error.message;
    }
    remember(KEPT, null);
    this.close();
    await this.chat.reload();
    await this.chosen({ ...stored, ...verdict, message, best: verdict.pick ?? shown[0] });
    return null;
  }

  /** Go away without choosing: nothing is stored. */
  async cancel() {
    const { id } = this.draw;
    await attempt(() => remove(`/api/rank/draws/${id}`));
    remember(KEPT, null);
    part("said").textContent = say("Cancelled: nothing was stored.");
    await this.leave();
  }

  async leave() {
    const held = this.view?.node.contains(document.activeElement);
    this.close();
    if (held) this.chat.composer.focus();
    await this.chat.reload();
  }

  /** Take the answers off the page; the draw itself waits on the server. */
  close() {
    this.clock.stop();
    this.view?.node.remove();
    this.view = null;
    this.draw = null;
    this.release?.();
    this.release = null;
  }

  /** Something else was asked for meanwhile: say what is open, and show it. */
  remind() {
    notice(say("Choose one of the answers first, or press Cancel."));
    this.view.node.scrollIntoView({ block: "nearest" });
  }

  /** Escape ends what is being written; answers that are there are not thrown away by it. */
  keepOpen(event) {
    if (event.key !== "Escape" || !this.view?.isReady || document.querySelector("dialog[open], :popover-open")) return;
    event.preventDefault();
  }

  key(event) {
    if (!this.isOpen || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("textarea, select, dialog, input, details, form")) return;
    if (event.key === "Enter") {
      if (event.target.closest("button, a, summary")) return;
      this.view.confirm();
    } else if (!this.view.key(event.key)) return;
    event.preventDefault();
  }
}

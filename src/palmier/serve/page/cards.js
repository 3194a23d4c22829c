// The answers as cards that can be put in order: by pointer (mouse, finger, pen), buttons or keys.

import { directed, element } from "./element.js";
import { update } from "./markdown.js";
import { language, say } from "./words.js";

const LETTERS = "ABCDEFGHI";
const FINISH = { length: () => say("cut off"), cancelled: () => say("stopped") };
const EDGE = 70; // pixels from the window's edge where a dragged card scrolls the page

const named = (letter) => say("Answer {letter}", { letter });

function ordinal(n) {
  return language === "en" ? `${n}${["th", "st", "nd", "rd"][n % 10 > 3 || (n > 10 && n < 14) ? 0 : n % 10]}` : `${n}.`;
}

/** The list #order. `changed(sentence)` is called after each change that a person made. */
export class Cards {
  constructor(list, changed) {
    Object.assign(this, { list, changed, order: null, cards: new Map(), enabled: false });
    list.addEventListener("keydown", (event) => this.key(event));
  }

  /** Begin with a draw's answers; they stand as `shown` tells until an order is given. */
  begin(draw, order) {
    this.order = order;
    this.enabled = false;
    this.cards = new Map(draw.shown.map((answer, at) => [answer, this.card(LETTERS[at])]));
    this.arrange();
  }

  card(letter) {
    const place = element("span", "place");
    const handle = element("div", "handle", place, element("span", "grip", "⠿"));
    handle.setAttribute("aria-hidden", "true");
    const prose = element("div", "prose waiting");
    const more = element("button", "quiet", say("Show all"));
    const why = element("span");
    const up = stepButton("▲", say("Move answer {letter} up", { letter }));
    const down = stepButton("▼", say("Move answer {letter} down", { letter }));
    const tie = stepButton("=", say("Tie answer {letter} with the one above", { letter }));
    const steps = element("div", "steps", up, down, tie);
    const head = element("header", "", element("strong", "", named(letter)), why, steps);
    const said = element("div", "said", head, prose);
    const node = element("li", "drawing", handle, said);
    node.tabIndex = 0;
    node.dataset.tied = say("tied"); // the mark between tied answers
    const card = { letter, node, place, prose, said, more, why, up, down, tie, text: null };
    up.addEventListener("click", () => this.step(card, -1));
    down.addEventListener("click", () => this.step(card, 1));
    tie.addEventListener("click", () => this.tie(card));
    more.type = "button";
    more.tabIndex = -1; // Space does the same, so that Tab goes from answer to answer
    more.addEventListener("click", () => this.unfold(card));
    handle.addEventListener("pointerdown", (event) => this.grab(card, event));
    return card;
  }

  /** Show what has been written so far, or all of it. */
  fill(draw) {
    draw.answers.forEach((answer, index) => {
      const card = this.cards.get(index);
      card.why.textContent = FINISH[answer.finish]?.() ?? "";
      card.prose.classList.toggle("waiting", answer.finish === null && !answer.text);
      if (card.text === answer.text && answer.finish === null) return;
      card.text = answer.text;
      update(card.prose, answer.text);
      if (answer.finish !== null && !answer.text.trim()) card.prose.append(element("p", "soft", say("(It said nothing.)")));
    });
  }

  /** Let the person order the cards. */
  enable() {
    this.enabled = true;
    for (const card of this.cards.values()) {
      card.node.classList.remove("drawing");
      if (card.prose.scrollHeight > 300) {
        card.said.classList.add("clamped");
        card.said.append(card.more);
      }
    }
    this.label();
  }

  unfold(card) {
    const clamped = card.said.classList.toggle("clamped");
    card.more.textContent = clamped ? say("Show all") : say("Show less");
  }

  at(card) {
    return this.order.sequence.findIndex((answer) => this.cards.get(answer) === card);
  }

  /** Put the elements where the order says, gliding there, and keep the focus. */
  arrange() {
    const focused = document.activeElement;
    const before = new Map([...this.list.children].map((node) => [node, node.getBoundingClientRect().top]));
    this.list.replaceChildren(...this.order.sequence.map((answer) => this.cards.get(answer).node));
    this.label();
    if (this.list.contains(focused)) focused.focus({ preventScroll: true });
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    for (const [node, top] of before) {
      const way = top - node.getBoundingClientRect().top;
      if (node.isConnected && way) {
        node.animate([{ transform: `translateY(${way}px)` }, { transform: "none" }], { duration: 160, easing: "ease-out" });
      }
    }
  }

  label() {
    const ranks = this.order.placeRanks();
    this.order.sequence.forEach((answer, at) => {
      const card = this.cards.get(answer);
      card.place.textContent = this.enabled ? ranks[at] : "";
      card.node.classList.toggle("tied", this.order.tied[at]);
      card.up.disabled = !this.enabled || at === 0;
      card.down.disabled = !this.enabled || at === this.order.length - 1;
      card.tie.disabled = !this.enabled || at === 0;
      card.tie.setAttribute("aria-pressed", String(this.order.tied[at]));
      card.node.setAttribute("aria-label", this.enabled ? this.describe(card) : named(card.letter));
    });
  }

  describe(card) {
    const at = this.at(card);
    const ranks = this.order.placeRanks();
    const isTied = ranks.filter((rank) => rank === ranks[at]).length > 1;
    const values = { letter: card.letter, rank: ordinal(ranks[at]), at: at + 1, count: this.order.length };
    return isTied
      ? say("Answer {letter}, {rank} place, tied, {at} of {count}", values)
      : say("Answer {letter}, {rank} place, {at} of {count}", values);
  }

  did(card) {
    this.arrange();
    card.node.focus({ preventScroll: true });
    card.node.scrollIntoView({ block: "nearest" });
    this.changed(this.describe(card));
  }

  place(card, to) {
    if (this.enabled && this.order.move(this.at(card), to)) this.did(card);
  }

  step(card, change) {
    this.place(card, this.at(card) + change);
  }

  tie(card) {
    if (this.enabled && this.order.toggleTie(this.at(card))) this.did(card);
  }

  key(event) {
    const card = [...this.cards.values()].find((one) => one.node === event.target);
    if (!card || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowUp") this.step(card, -1);
    else if (event.key === "ArrowDown") this.step(card, 1);
    else if (/^[1-9]$/.test(event.key)) this.place(card, Number(event.key) - 1);
    else if (event.key === "t" || event.key === "T" || event.key === "=") this.tie(card);
    else if (event.key === " ") {
      if (card.more.isConnected) this.unfold(card);
    } else return;
    event.preventDefault();
  }

  grab(card, event) {
    if (!this.enabled || event.button !== 0) return;
    event.preventDefault();
    card.node.focus({ preventScroll: true });
    new Drag(this, card, event);
  }
}

function stepButton(sign, label) {
  const button = element("button", "", sign);
  button.type = "button";
  button.tabIndex = -1; // the keys do the same, so that Tab goes from answer to answer
  button.setAttribute("aria-label", label);
  button.title = label;
  return button;
}

/** One card under the pointer until it is let go: a small copy follows, a line shows where it will stand. */
class Drag {
  constructor(cards, card, event) {
    Object.assign(this, { cards, card, y: event.clientY, to: cards.at(card) });
    this.handle = event.currentTarget;
    this.gap = element("div");
    this.gap.id = "gap";
    this.ghost = element("div", "ghost", element("strong", "small soft", named(card.letter)));
    this.ghost.append(directed(element("p", "", card.text.slice(0, 200))));
    this.handle.setPointerCapture(event.pointerId);
    this.listeners = { pointermove: (e) => this.move(e), pointerup: () => this.end(true), pointercancel: () => this.end(false) };
    for (const [name, listener] of Object.entries(this.listeners)) this.handle.addEventListener(name, listener);
    card.node.classList.add("held");
    this.frame = requestAnimationFrame(() => this.tick());
  }

  move(event) {
    this.y = event.clientY;
    this.follow();
  }

  follow() {
    const { list } = this.cards;
    const box = list.getBoundingClientRect();
    Object.assign(this.ghost.style, { left: `${box.left}px`, width: `${box.width}px`, top: `${this.y - 24}px` });
    const others = [...list.children].filter((node) => node !== this.card.node && node !== this.gap);
    const middles = others.map((node) => node.getBoundingClientRect()).map((one) => one.top + one.height / 2);
    this.to = middles.filter((middle) => middle < this.y).length;
    const next = others[this.to];
    const top = next ? next.offsetTop - 8 : others.at(-1).offsetTop + others.at(-1).offsetHeight + 4;
    this.gap.style.top = `${top}px`;
    if (!this.gap.isConnected) list.append(this.gap);
    if (!this.ghost.isConnected) document.body.append(this.ghost);
  }

  /** Near the window's edge the page scrolls along. */
  tick() {
    const under = this.y - (innerHeight - EDGE);
    const over = EDGE - this.y;
    if (this.ghost.isConnected && (under > 0 || over > 0)) {
      scrollBy(0, under > 0 ? under / 5 : -over / 5);
      this.follow();
    }
    this.frame = requestAnimationFrame(() => this.tick());
  }

  end(isDropped) {
    cancelAnimationFrame(this.frame);
    for (const [name, listener] of Object.entries(this.listeners)) this.handle.removeEventListener(name, listener);
    this.gap.remove();
    this.ghost.remove();
    this.card.node.classList.remove("held");
    if (isDropped) this.cards.place(this.card, this.to);
  }
}

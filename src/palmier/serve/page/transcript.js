// The conversation on the screen: its turns, the line below which the model reads, and the place of the reader.

import { element } from "./element.js";
import { title } from "./state.js";
import { Turn } from "./turn.js";
import { say } from "./words.js";

const NEAR = "1200px 0px"; // turns this near to the window are drawn; those further off are bare text
const AT_ONCE = 6; // of the newest turns, drawn before anything is shown
const CLOSE = 120; // pixels above the end where a reader is taken to follow what is written

/** Shows the branch of a conversation. `actions` are what a turn may ask for (turn.js). */
export class Transcript {
  constructor(actions) {
    Object.assign(this, { actions, turns: [], follows: true, top: 0, planned: new Set() });
    this.box = document.getElementById("scroll");
    this.list = document.getElementById("turns");
    this.lines = []; // where the model begins to read: one, or several where versions side by side differ
    this.near = new IntersectionObserver((entries) => this.meet(entries), { root: this.box, rootMargin: NEAR });
    this.box.addEventListener("scroll", () => this.scrolled(), { passive: true });
    // Whoever reads at the end stays there, however the turns grow, and whatever takes of their room.
    const ends = new ResizeObserver(() => this.follows && this.toEnd());
    for (const node of [this.list, this.box]) ends.observe(node);
    this.keepPlace();
  }

  /** Whoever reads in the middle has the same words in the same place when something comes above them, or goes. */
  keepPlace() {
    let { top } = this.box.getBoundingClientRect();
    new ResizeObserver(() => {
      const before = top;
      ({ top } = this.box.getBoundingClientRect());
      if (this.box.scrollTop > 0 && !this.follows) this.box.scrollTop += top - before;
    }).observe(this.box);
  }

  /** Whoever goes up, however little, reads on there; whoever comes near the end follows again. */
  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.box;
    const wentUp = scrollTop < this.top;
    this.top = scrollTop;
    // A page that became shorter goes up by itself, and stands at its end then.
    this.follows = scrollHeight - scrollTop - clientHeight < (wentUp ? 2 : CLOSE);
  }

  toEnd() {
    this.follows = true;
    this.box.scrollTop = this.turns.length ? this.box.scrollHeight : 0;
    this.top = this.box.scrollTop;
  }

  /** Show the branch where the conversation stands; turns that were here stay the same elements. */
  show() {
    const conversation = this.actions.conversation();
    const focused = this.focused();
    const before = new Map(this.turns.map((turn) => [turn.key, turn]));
    let number = 0;
    this.turns = untilWritten(conversation).map((one) => {
      const key = one.asked ?? one.answer ?? one.said;
      const turn = before.get(key) ?? Object.assign(new Turn(one, this.actions), { key });
      turn.place(number, one.answer);
      if (one.asked) number += 1;
      return turn;
    });
    this.arrange();
    this.planned.clear(); // all is drawn now: once more with the next frame would lose the focus
    for (const turn of this.turns) if (turn.isDrawn) turn.draw();
    for (const turn of this.turns.slice(-AT_ONCE)) if (!turn.isDrawn) this.draw(turn);
    for (const turn of this.turns) if (!turn.isDrawn) this.near.observe(turn.node);
    this.showLines(conversation);
    focused?.();
  }

  /** A way back to the button of a turn that has the focus: drawing makes it anew. */
  focused() {
    const here = document.activeElement;
    const turn = this.turns.find((one) => one.node.contains(here));
    if (!turn || here.localName === "textarea") return null;
    const { className, textContent } = here;
    const alike = () => [...turn.node.querySelectorAll("button, a")].filter((one) => one.className === className);
    const same = () => alike().filter((one) => one.textContent === textContent);
    const place = same().indexOf(here); // side by side each column has it
    return () => {
      if (document.activeElement === here) return;
      (same()[place] ?? same()[0] ?? alike()[0])?.focus({ preventScroll: true });
    };
  }

  /** Put the turns' elements in order without touching those that are in their place. */
  arrange() {
    const wanted = new Set(this.turns.map((turn) => turn.node));
    for (const node of [...this.list.children]) {
      if (this.lines.includes(node) || wanted.has(node)) continue;
      this.near.unobserve(node);
      node.remove();
    }
    let after = null;
    for (const { node } of this.turns) {
      let next = after ? after.nextSibling : this.list.firstChild;
      while (this.lines.includes(next)) next = next.nextSibling;
      if (next !== node) this.list.insertBefore(node, next);
      after = node;
    }
  }

  meet(entries) {
    for (const entry of entries) {
      const turn = entry.isIntersecting && this.turns.find((one) => one.node === entry.target);
      if (turn) this.draw(turn);
    }
  }

  draw(turn) {
    this.near.unobserve(turn.node);
    turn.draw();
  }

  /** An answer has grown: draw it with the next frame. */
  refresh(answer) {
    if (this.planned.has(answer)) return;
    this.planned.add(answer);
    requestAnimationFrame(() => {
      if (!this.planned.delete(answer)) return;
      const turn = this.turns.find((one) => one.asked?.id === answer.parent);
      if (turn?.views.has(answer)) turn.refresh(answer);
    });
  }

  /** Say where the model begins to read; it stays until an answer has read more. */
  showLines(conversation) {
    const starts = this.turns.filter((turn, at) => turn.asked || (turn.answer && at === 0)); // as the server counts
    const told = unread(this.turns, conversation).filter(({ leftOut }) => leftOut && starts[leftOut]);
    for (const line of this.lines.splice(told.length)) line.remove();
    for (const [at, { leftOut, words }] of told.entries()) {
      this.lines[at] ??= note();
      const line = this.lines[at];
      line.textContent = words;
      const { node } = starts[leftOut];
      if (node.previousSibling !== line) this.list.insertBefore(line, node);
    }
  }

  find(asked) {
    return this.turns.find((turn) => turn.asked?.id === asked) ?? null;
  }
}

/** The branch's turns; below an answer that is being written there is nothing yet. */
function untilWritten(conversation) {
  const turns = conversation.tree.turns();
  if (!conversation.isWriting) return turns;
  const at = turns.findIndex((one) => one.asked && conversation.pending.has(one.asked.id));
  return at < 0 ? turns : turns.slice(0, at + 1);
}

function note() {
  const line = element("p", "unread");
  line.setAttribute("role", "note");
  return line;
}

/** What the answers that are seen last did not read, as {leftOut, words}: one where it is true of all of them. */
function unread(turns, conversation) {
  const isKnown = (answer) => conversation.leftOut(answer) !== undefined;
  const last = turns.findLast((turn) => turn.visible.some(isKnown))?.visible ?? [];
  const answers = last.filter((one) => isKnown(one) || !one.trouble); // what was refused had nothing to read
  const groups = [...Map.groupBy(answers.filter(isKnown), (one) => conversation.leftOut(one))];
  const isOne = groups.length === 1 && answers.every(isKnown);
  return groups.map(([leftOut, group]) => {
    const count = leftOut === 1 ? say("1 earlier turn") : say("{count} earlier turns", { count: leftOut });
    const names = group.map((one) => title(one.version)).join(", ");
    const words = isOne
      ? say("The model no longer reads what stands above this line: {turns}.", { turns: count })
      : say("What stands above this line is no longer read by {names}: {turns}.", { names, turns: count });
    return { leftOut, words };
  });
}

// One turn on the screen: what was asked, and the answers to it.
//
// A turn is first its bare text; it is drawn (Markdown, tools) when it comes near the window, or when
// something happens to it. What others may add to it:
//   actions.decorate(message, tools, view)  called whenever the tools of a stored answer are drawn: `message` is the
//       tree's {id, version, content, good, …}, `tools` the row of buttons, `view` {node, head, prose, foot}.
//   turn.below                              an empty element under the answers, kept as long as the turn.
// The turn asks: actions.conversation() (the open Conversation), .compared() (versions side by side), .isBusy() (which
// tells the person), and tells: .again(asked, version), .goOn(answer), .edit(asked, text), .choose(message, button), .reload(leaf).

import { address } from "./api.js";
import { copyText, directed, element } from "./element.js";
import { update } from "./markdown.js";
import { pager } from "./pager.js";
import { title } from "./state.js";
import { say } from "./words.js";

/** A question, its answers, and the element that shows them. `asked` may be null (an answer to nothing, in a file). */
export class Turn {
  constructor({ asked, answer, said }, actions) {
    Object.assign(this, { asked, answer, said, actions, number: 0, isDrawn: false });
    Object.assign(this, { views: new Map(), editor: null, wordings: null }); // `wordings`: how many there were when it was drawn
    this.question = element("div", "question");
    this.grid = element("div", "answers");
    this.below = element("div", "below");
    this.node = element("section", "turn", this.question, this.grid, this.below);
    this.sketch();
  }

  /** Its text alone, which costs little: a long conversation is there at once. */
  sketch() {
    if (this.said) this.question.replaceChildren(directed(element("p", "told small soft", this.said.content)));
    if (this.asked) this.question.replaceChildren(directed(element("div", "asked", this.asked.content)));
    if (this.answer) this.grid.replaceChildren(directed(element("div", "sketch", this.answer.content)));
  }

  /** Take its place: the `number`-th question, with the answer that is on the branch. */
  place(number, answer) {
    this.number = number;
    const isOther = answer !== this.answer;
    this.answer = answer;
    this.node.setAttribute("aria-label", say("Question {number}", { number: number + 1 }));
    if (!this.isDrawn && isOther) this.sketch();
  }

  /** Every answer, oldest first: the stored ones and those under way. */
  get answers() {
    const conversation = this.actions.conversation();
    if (!this.asked) return this.answer ? [this.answer] : [];
    const pending = conversation.pending.get(this.asked.id) ?? [];
    return [...new Set([...conversation.tree.answers(this.asked.id), ...pending])];
  }

  /** Which answers are to be seen: the newest of each compared version, or the one of the branch, or what is written. */
  get visible() {
    const answers = this.answers;
    const compared = this.actions.compared();
    if (!compared.length || !this.asked) {
      const pending = (this.actions.conversation().pending.get(this.asked?.id) ?? []).filter((one) => one.id === null);
      const written = pending.filter((one) => !isDone(one));
      return written.length ? written : [...(this.answer ? [this.answer] : []), ...pending];
    }
    const newest = compared.map((name) => answers.findLast((answer) => answer.version === name));
    const found = newest.filter(Boolean);
    return found.length ? found : answers.slice(-1);
  }

  get isWritten() {
    return this.answers.some((one) => !isDone(one));
  }

  /** Draw all of it. */
  draw() {
    this.isDrawn = true;
    if (this.asked && !this.editor) this.drawQuestion();
    const visible = this.visible;
    for (const answer of this.views.keys()) if (!visible.includes(answer)) this.views.delete(answer);
    const nodes = visible.map((answer) => this.view(answer).node);
    // What is put back in its place would lose what is selected in it, and how far its code was scrolled.
    const isSame = nodes.length === this.grid.children.length && nodes.every((node, at) => node === this.grid.children[at]);
    if (!isSame || !nodes.length) this.grid.replaceChildren(...nodes);
    if (!visible.length && this.asked && this.actions.isLast(this)) this.grid.append(this.unanswered());
    for (const answer of visible) this.refresh(answer);
  }

  drawQuestion() {
    const { actions, asked } = this;
    const siblings = actions.conversation().tree.siblings(asked);
    if (this.wordings === siblings.length) return;
    this.wordings = siblings.length;
    const edit = element("button", "quiet", say("Edit"));
    edit.addEventListener("click", () => this.edit());
    const copy = element("button", "quiet", say("Copy"));
    copy.addEventListener("click", () => copyText(asked.content, copy));
    const steps = pager(siblings, asked, say("Wordings of this message"), actions);
    const tools = element("div", "tools", ...steps, copy, edit);
    this.question.replaceChildren(directed(element("div", "asked", asked.content)), tools);
  }

  /** Let the question be written anew, in its place. */
  edit() {
    if (this.editor || this.actions.isBusy()) return;
    const text = element("textarea", "", this.asked.content);
    text.dir = "auto";
    text.setAttribute("aria-label", say("Your message, to be changed"));
    text.rows = Math.min(12, this.asked.content.split("\n").length + 1);
    const send = element("button", "primary", say("Send"));
    const cancel = element("button", "", say("Cancel"));
    cancel.type = "button";
    const row = element("div", "buttons", element("span", "small soft", say("Becomes another branch.")), cancel, send);
    this.editor = element("form", "edit", text, row);
    const close = () => {
      this.editor = this.wordings = null;
      this.draw();
      this.question.querySelector(".tools button:last-of-type")?.focus();
    };
    const submit = async () => {
      if (!text.value.trim() || this.actions.isBusy()) return;
      if (text.value === this.asked.content) close();
      else if (await this.actions.edit(this.asked, text.value)) this.editor = null;
    };
    cancel.addEventListener("click", close);
    this.editor.addEventListener("submit", (event) => {
      event.preventDefault();
      submit();
    });
    text.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close();
      else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    this.question.replaceChildren(this.editor);
    text.focus();
    text.setSelectionRange(text.value.length, text.value.length);
  }

  /** Where nothing was said yet, or where it was stopped before its first word. */
  unanswered() {
    const button = element("button", "", say("Answer this"));
    button.addEventListener("click", () => this.actions.again(this.asked, null));
    return element("div", "tools", button);
  }

  view(answer) {
    let view = this.views.get(answer);
    if (!view) {
      view = { head: element("div", "answer-head"), prose: element("div", "prose"), foot: element("div") };
      view.node = element("article", "answer", view.head, view.prose, view.foot);
      view.node.setAttribute("aria-label", say("Answer"));
      this.views.set(answer, view);
    }
    return view;
  }

  /** Draw one answer, as far as it has come. */
  refresh(answer) {
    const view = this.view(answer);
    const state = isDone(answer);
    const name = title(answer.version) || (state ? "" : "…"); // where it was refused, nobody answered
    view.head.replaceChildren(...(name ? [element("span", "badge", name)] : []));
    if (view.content !== answer.content) update(view.prose, answer.content);
    view.content = answer.content;
    if (state && !answer.content && !answer.trouble) view.prose.replaceChildren(element("p", "soft", say("(It said nothing.)")));
    view.node.classList.toggle("done", state);
    view.node.setAttribute("aria-busy", String(!state));
    view.foot.replaceChildren(...(state ? this.footing(answer, view) : [element("div", "tools")]));
  }

  footing(answer, view) {
    const { actions } = this;
    const tools = element("div", "tools");
    const isAlone = !actions.compared().length;
    if (isAlone && this.asked && answer.id !== null) {
      tools.append(...pager(actions.conversation().tree.siblings(answer), answer, say("Answers to this message"), actions));
    }
    const copy = element("button", "quiet copy", say("Copy"));
    copy.addEventListener("click", () => copyText(answer.content, copy));
    if (answer.content) tools.append(copy);
    if (this.asked) tools.append(...this.asking(answer, isAlone));
    if (answer.id !== null && actions.decorate) actions.decorate(answer, tools, view);
    const why = reason(answer);
    if (why) tools.append(element("span", "why", why));
    return answer.trouble ? [element("p", "trouble", answer.trouble), tools] : [tools];
  }

  /** The buttons that draw more answers. */
  asking(answer, isAlone) {
    const { actions } = this;
    const again = element("button", "quiet again", say("Again"));
    again.title = say("Draw another answer to the same message");
    again.addEventListener("click", () => actions.again(this.asked, isAlone ? null : answer.version));
    const buttons = [again];
    if (answer.id !== null && (answer.finish === "length" || answer.finish === "cancelled")) {
      const goOn = element("button", "quiet go-on", say("Continue"));
      goOn.title = say("Let the answer go on from where it was cut");
      goOn.addEventListener("click", () => actions.goOn(answer, isAlone));
      buttons.push(goOn);
    }
    const rank = element("a", "button quiet", say("Rank answers"));
    rank.title = say("Draw several answers to this message and put them in order");
    rank.href = address("/rank", { conversation: actions.conversation().id, turn: this.number });
    return [...buttons, rank];
  }
}

/** Whether an answer has come to its end, of whichever kind. */
export function isDone(answer) {
  return answer.finish !== null || Boolean(answer.trouble);
}

/** Why an answer ended, or how fast it came. */
function reason(answer) {
  if (answer.finish === "length") return say("cut off: it reached the longest answer allowed");
  if (answer.finish === "cancelled") return say("stopped");
  if (answer.seconds > 0) return say("{count} tokens a second", { count: (answer.tokens / answer.seconds).toFixed(0) });
  return "";
}

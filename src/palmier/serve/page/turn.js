// One turn on the screen: what was asked, and the answers to it.

import { address } from "./api.js";
import { copyText, element, render } from "./markdown.js";
import { title } from "./state.js";

const WHY = {
  length: "cut off: it reached the longest answer allowed",
  cancelled: "stopped",
};

/** One answer: `text`, the `version` that gave it, and why it ended (null while it is written). */
export class Answer {
  constructor(text = "", version = "", finish = null) {
    Object.assign(this, { text, version, finish, trouble: "", seconds: 0, tokens: 0 });
  }

  get done() {
    return this.finish !== null || this.trouble !== "";
  }
}

/** A question and its answers, and the element that shows them. */
export class Turn {
  /** `number` is the question's place among the questions of the conversation. */
  constructor(question, number, actions) {
    Object.assign(this, { question, number, actions, answers: [], at: 0, views: new Map() });
    this.grid = element("div", "answers");
    this.node = element("section", "turn", element("div", "asked", question), this.grid);
    this.node.setAttribute("aria-label", `Question ${number + 1}`);
  }

  add(answer) {
    this.answers.push(answer);
    this.at = this.answers.length - 1;
    return answer;
  }

  /** Which answers are to be seen: the newest of each compared version, or one at a time. */
  visible(compared) {
    if (!compared.length) return this.answers.slice(this.at, this.at + 1);
    const newest = compared.map((name) => this.answers.findLast((answer) => answer.version === name));
    const found = newest.filter(Boolean);
    return found.length ? found : this.answers.slice(-1);
  }

  show(compared) {
    const answers = this.visible(compared);
    this.grid.replaceChildren(...answers.map((answer) => this.view(answer).node));
    if (!answers.length && this.actions.isLast(this)) this.grid.append(this.unanswered());
    for (const answer of answers) this.refresh(answer, compared);
  }

  /** Where the page was closed before anything was said. */
  unanswered() {
    const button = element("button", "", "Answer this");
    button.addEventListener("click", () => this.actions.again(this, null));
    return element("div", "tools", button);
  }

  view(answer) {
    let view = this.views.get(answer);
    if (!view) {
      view = { head: element("div", "answer-head"), prose: element("div", "prose"), foot: element("div") };
      view.node = element("article", "answer", view.head, view.prose, view.foot);
      view.node.setAttribute("aria-label", "Answer");
      this.views.set(answer, view);
    }
    return view;
  }

  refresh(answer, compared) {
    const view = this.view(answer);
    view.head.replaceChildren(...this.heading(answer, compared));
    view.prose.replaceChildren(render(answer.text));
    view.node.classList.toggle("done", answer.done);
    view.foot.replaceChildren(...(answer.done ? this.footing(answer, compared) : [element("div", "tools")]));
  }

  heading(answer, compared) {
    const parts = [element("span", "badge", title(answer.version) || "…")];
    if (!compared.length && this.answers.length > 1) {
      const step = (change, label) => {
        const button = element("button", "quiet", change < 0 ? "‹" : "›");
        button.setAttribute("aria-label", label);
        button.disabled = !this.answers[this.at + change];
        button.addEventListener("click", () => {
          this.at += change;
          this.show(compared);
        });
        return button;
      };
      const place = element("span", "", `${this.at + 1} of ${this.answers.length}`);
      parts.push(step(-1, "The answer before"), place, step(1, "The answer after"));
    }
    return parts;
  }

  footing(answer, compared) {
    const copy = element("button", "quiet", "Copy");
    copy.addEventListener("click", () => copyText(answer.text, copy));
    const again = element("button", "quiet", "Again");
    again.title = "Draw another answer to the same message";
    again.addEventListener("click", () => this.actions.again(this, compared.length ? answer.version : null));
    const rank = element("a", "button quiet", "Rank answers");
    rank.title = "Draw several answers to this message and put them in order";
    rank.href = address("/rank", { conversation: this.actions.conversation(), turn: this.number });
    const tools = element("div", "tools", copy, ...(this.actions.isLast(this) ? [again] : []), rank);
    if (WHY[answer.finish]) tools.append(element("span", "why", WHY[answer.finish]));
    else if (answer.seconds > 0) {
      tools.append(element("span", "why", `${(answer.tokens / answer.seconds).toFixed(0)} tokens a second`));
    }
    return answer.trouble ? [element("p", "trouble", answer.trouble), tools] : [tools];
  }
}

// The composer's Compare button: how many answers, and of which versions.

import { recall, remember } from "./api.js";
import { element } from "./element.js";
import { hang } from "./menu.js";
import { known, title } from "./state.js";
import { say } from "./words.js";

const KEPT = "compare-wish"; // number of answers

/** A button that draws, and beside it a small choice of what. `press()` is called when it is pressed. */
export class DrawButton {
  /** `versions` is the page's choice of versions: the first wanted one is compared. */
  constructor(versions, press) {
    this.versions = versions;
    this.button = element("button", "compare-send", say("Compare"));
    this.button.type = "button";
    this.button.title = say("Draw several answers to what is written, and pick the best one");
    this.button.addEventListener("click", press);
    this.count = element("select");
    this.count.id = "compare-count";
    this.count.append(...[2, 3, 4].map((count) => new Option(say("{count} answers", { count }), String(count))));
    this.count.value = String(recall(KEPT) ?? 2);
    this.count.addEventListener("change", () => {
      remember(KEPT, Number(this.count.value));
      this.tell();
    });
    this.against = element("select");
    this.against.id = "compare-against";
    this.against.addEventListener("change", () => this.tell());
    this.shown = element("span");
    const mark = element("span", "", "▾");
    mark.setAttribute("aria-hidden", "true");
    this.how = element("button", "compare-how", this.shown, mark);
    this.how.type = "button";
    this.how.setAttribute("aria-haspopup", "dialog");
    this.how.setAttribute("aria-expanded", "false");
    this.how.addEventListener("click", () => this.open());
    this.node = element("div", "compare-button", this.button, this.how);
    this.refresh();
  }

  open() {
    this.refresh();
    const fields = [labelled(say("Draw"), this.count)];
    if (this.against.options.length > 1) fields.push(labelled(say("Against"), this.against));
    const hint = element("p", "small soft", say("Whose answer is whose is told when one is chosen."));
    const menu = element("div", "compare-fields", ...fields, hint);
    menu.setAttribute("role", "dialog");
    menu.setAttribute("aria-label", say("How to compare"));
    hang(menu, this.how);
    this.count.focus();
  }

  /** What is to be drawn, as the server takes it. */
  get wish() {
    this.refresh();
    return { n: Number(this.count.value), model: this.versions.wanted[0] ?? null, against: this.against.value || null };
  }

  /** Offer the other versions there are; one that was chosen stays so while it is another one. */
  refresh() {
    const own = this.versions.wanted[0] ?? known()?.current;
    const names = (known()?.versions ?? []).map((version) => version.name).filter((name) => name !== own);
    const wanted = ["", ...names.toReversed()];
    const before = this.against.value;
    if (wanted.join() !== [...this.against.options].map((option) => option.value).join()) {
      this.against.replaceChildren(...wanted.map((name) => new Option(name ? title(name) : say("no other version"), name)));
      this.against.value = names.includes(before) ? before : "";
    }
    this.tell();
  }

  /** Say on the button itself what it would draw. */
  tell() {
    const count = this.count.value;
    const against = this.against.value;
    this.shown.textContent = against ? `${count} · ${against}` : count;
    const values = { count, version: title(against) };
    const label = against ? say("How to compare: {count} answers, against version {version}", values) : say("How to compare: {count} answers", values);
    this.how.setAttribute("aria-label", label);
  }
}

function labelled(text, field) {
  const label = element("label", "", text);
  label.htmlFor = field.id;
  return element("div", "compare-field", label, field);
}

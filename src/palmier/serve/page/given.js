// “My feedback”: consent with its words and its reach, and everything that a person gave, with what each did.

import { annotator, get, post } from "./api.js";
import { attempt } from "./attempt.js";
import { answer, overview } from "./consent.js";
import { footer, openDialog } from "./dialogs.js";
import { button, element } from "./element.js";
import { sentence } from "./fate.js";
import { icon } from "./icons.js";
import { language, say } from "./words.js";

const AT_ONCE = 20;

const KINDS = {
  ranking: { count: "rankings", name: () => say("Comparisons"), none: () => say("No comparisons yet.") },
  label: { count: "labels", name: () => say("Thumbs"), none: () => say("No thumbs yet.") },
  demonstration: { count: "demonstrations", name: () => say("Better answers"), none: () => say("No better answers yet.") },
};

/** The dialog. `changed()` is called after consent changed, `withdrawn()` when it closes after something was taken back. */
export class Given {
  constructor(changed, withdrawn) {
    Object.assign(this, { changed, withdrawn, kind: "ranking", isStale: false });
    this.consent = element("section", "my-consent");
    this.tabs = element("div", "segments kinds");
    this.tabs.setAttribute("role", "group");
    this.tabs.setAttribute("aria-label", say("What was given"));
    this.list = element("ul", "given-list");
    this.more = button("", say("Show more"), () => this.page());
    this.said = element("p", "hidden-text");
    this.said.setAttribute("role", "status");
  }

  async open() {
    const shown = await attempt(overview);
    if (!shown) return;
    this.show(shown);
    const parts = [this.consent, this.tabs, this.list, this.more, this.said];
    const dialog = openDialog(say("My feedback"), ...parts, footer(null, say("Close")));
    dialog.classList.add("given");
    dialog.addEventListener("close", () => this.closed());
    await this.choose(this.kind);
  }

  closed() {
    if (!this.isStale) return;
    this.isStale = false;
    this.withdrawn();
  }

  show(shown) {
    this.shown = shown;
    this.consent.replaceChildren(...this.question(shown));
    this.showTabs();
  }

  showTabs() {
    const tabs = Object.entries(KINDS).map(([kind, { count, name }]) => {
      const tab = button("", `${name()} (${this.shown.given[count]})`, () => this.choose(kind));
      tab.dataset.kind = kind;
      tab.setAttribute("aria-pressed", String(kind === this.kind));
      return tab;
    });
    const held = this.tabs.contains(document.activeElement);
    this.tabs.replaceChildren(...tabs);
    if (held) this.tabs.querySelector("[aria-pressed=true]").focus();
  }

  // ── consent ──────────────────────────────────────────────────────────────────────────────

  question(shown) {
    const isOn = Boolean(shown.consent);
    const isWhole = isOn && shown.asked;
    const now = isWhole
      ? say("Your feedback is used to train the next version.")
      : isOn
        ? say("Your rankings are used; the question has new words, and the rest waits for your answer.")
        : say("Your feedback is kept, and not used for training.");
    const yes = button(isWhole ? "" : "primary", say("Turn on"), () => this.reply(true));
    const no = button("", say("Turn off"), () => this.reply(false));
    const words = element("details", "", element("summary", "", say("What this means")), element("p", "", shown.words));
    words.open = !isWhole;
    const row = element("div", "buttons", element("strong", "", now), ...(isWhole ? [] : [yes]), ...(isOn ? [no] : []));
    return [row, element("p", "small soft", reach(shown)), words];
  }

  async reply(granted) {
    const now = await attempt(() => answer(this.shown, granted));
    if (!now) return;
    this.show(now);
    if (!granted) this.consent.querySelector("p").textContent = reached(now.reach);
    this.said.textContent = this.consent.querySelector("strong").textContent;
    this.consent.querySelector("button").focus();
    await this.choose(this.kind);
    this.changed();
  }

  // ── the list ─────────────────────────────────────────────────────────────────────────────

  async choose(kind) {
    this.kind = kind;
    this.showTabs();
    this.list.replaceChildren();
    this.before = 0;
    await this.page();
  }

  /** Show the next page of the list. */
  async page() {
    const { kind, before } = this;
    const wish = { annotator, kind, before, limit: AT_ONCE };
    const items = await attempt(() => get("/api/feedback/items", wish));
    if (!items || kind !== this.kind || before !== this.before) return;
    const rows = items.map((item) => this.row(item));
    this.list.append(...rows);
    if (before && rows.length) rows[0].focus();
    if (!this.list.children.length) this.list.append(element("li", "soft", KINDS[kind].none()));
    this.before = items.at(-1)?.id ?? 0;
    this.more.hidden = items.length < AT_ONCE;
  }

  row(item) {
    const fate = element("p", "small fate-line", sentence(item));
    const when = element("time", "small soft", new Date(item.created).toLocaleDateString(language));
    when.dateTime = item.created;
    const what = element("p", "what", ...heading(item));
    const back = button("quiet", say("Take back"), () => this.takeBack(item, row, fate, back));
    back.setAttribute("aria-label", `${say("Take back")}: ${item.said || item.about}`);
    const row = element("li", "", what, element("p", "small soft", say("Asked: {question}", { question: item.about })), fate, when);
    row.tabIndex = -1;
    if (item.state !== "withdrawn") row.append(back);
    return row;
  }

  async takeBack(item, row, fate, back) {
    const { kind, id } = item;
    const now = await attempt(() => post("/api/feedback/withdraw", { annotator, kind, id }));
    if (!now) return;
    this.isStale = true;
    this.shown = { ...this.shown, given: now.given, reach: now.reach };
    this.showTabs();
    fate.textContent = sentence({ ...item, state: "withdrawn" });
    this.said.textContent = fate.textContent;
    row.focus();
    back.remove();
    this.consent.querySelector("p").textContent = reach(this.shown);
  }
}

/** What an item is: the picked answer, the thumb's answer, or what was written. */
function heading(item) {
  if (item.kind === "label") {
    const thumb = element("span", item.good ? "sign" : "sign down", icon("up"));
    return [thumb, element("span", "hidden-text", item.good ? say("Thumb up") : say("Thumb down")), " ", element("bdi", "", item.said)];
  }
  if (item.said) return [element("bdi", "", item.said)];
  return [item.good === false ? say("All bad") : say("A tie")];
}

/** What turning it on or off would reach. */
function reach(shown) {
  const { given } = shown;
  if (!shown.consent) {
    if (!given.rankings && !given.labels && !given.demonstrations) return say("You have not given any feedback yet.");
    return say("Turned on, what you have given so far is used too: {amounts}.", { amounts: amounts(given) });
  }
  return [say("Turned off, this is not used any more: {amounts}.", { amounts: amounts(shown.reach) }), stays(shown.reach)].join(" ");
}

/** What turning it off has reached. */
function reached(found) {
  return [say("Not used any more from now on: {amounts}.", { amounts: amounts(found) }), stays(found)].join(" ");
}

function stays({ versions }) {
  if (!versions.length) return say("No version has learnt from it yet.");
  return say("What version {versions} has learnt from it stays there.", { versions: versions.join(", ") });
}

function amounts({ rankings, labels, demonstrations }) {
  const parts = [
    rankings === 1 ? say("1 comparison") : say("{count} comparisons", { count: rankings }),
    labels === 1 ? say("1 thumb") : say("{count} thumbs", { count: labels }),
    demonstrations === 1 ? say("1 better answer") : say("{count} better answers", { count: demonstrations }),
  ];
  return parts.join(", ");
}

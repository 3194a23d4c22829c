// Earlier conversations: searched, in groups, opened. What is done with one stands in chatmenu.js.

import { address, annotator, get, recall, remember } from "./api.js";
import { attempt } from "./attempt.js";
import { openChatMenu } from "./chatmenu.js";
import { directed, element } from "./element.js";
import { offerImport } from "./files.js";
import { say } from "./words.js";

const PAUSE = 200; // milliseconds without a key before it is searched
const DAY = 24 * 3600 * 1000;
const CLOSED = `folders.${annotator}`; // the folders that were closed here

const part = (id) => document.getElementById(id);
const narrow = matchMedia("(max-width: 860px)"); // as in sidebar.css: the list is a drawer

/** `open(number)` opens a conversation, `current()` is the open one's number, `changed()` is called when it was changed here. */
export class Sidebar {
  constructor({ open, current, changed }) {
    Object.assign(this, { open, current, changed, chats: [], asked: 0, timer: null });
    this.field = part("search");
    this.nav = part("chats");
    this.field.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.list(), PAUSE);
    });
    this.field.addEventListener("keydown", (event) => this.leaveSearch(event));
    this.nav.addEventListener("keydown", (event) => this.walk(event));
    part("history-open").addEventListener("click", () => this.toggle(true));
    part("history-close").addEventListener("click", () => this.toggle(false));
    part("veil").addEventListener("click", () => this.toggle(false));
    narrow.addEventListener("change", () => this.toggle(false));
    offerImport(async (number) => {
      await this.list();
      await this.open(number);
    });
  }

  /** Load the list anew; what a slower, earlier look brings is not shown. */
  async list() {
    const turn = (this.asked += 1);
    const search = this.field.value.trim();
    const chats = await attempt(() => get("/api/conversations", { annotator, search }));
    if (!chats || turn !== this.asked) return;
    this.chats = chats;
    this.draw(search);
  }

  draw(search) {
    const focused = this.nav.contains(document.activeElement) ? document.activeElement.dataset : null;
    const groups = search ? [this.rows(this.chats)] : this.groups();
    this.nav.replaceChildren(...groups);
    if (!this.chats.length && !search) this.nav.append(element("p", "small soft", say("Nothing here yet.")));
    part("search-found").textContent = search ? found(this.chats.length) : "";
    this.mark();
    if (focused?.id) this.focus(focused.id, focused.kind);
  }

  groups() {
    const pinned = this.chats.filter((chat) => chat.pinned);
    const rest = this.chats.filter((chat) => !chat.pinned);
    const folders = Map.groupBy(rest.filter((chat) => chat.folder), (chat) => chat.folder);
    const ages = Map.groupBy(rest.filter((chat) => !chat.folder), (chat) => age(chat.created));
    const names = [...folders.keys()].sort((one, other) => one.localeCompare(other));
    return [
      ...(pinned.length ? [element("h2", "", say("Pinned")), this.rows(pinned)] : []),
      ...names.map((name) => this.folder(name, folders.get(name))),
      ...[...ages].flatMap(([words, chats]) => [element("h2", "", words), this.rows(chats)]),
    ];
  }

  folder(name, chats) {
    const count = element("span", "soft small", String(chats.length));
    const node = element("details", "folder", element("summary", "", directed(element("span", "", name)), count), this.rows(chats));
    const closed = () => new Set(recall(CLOSED) ?? []);
    node.open = !closed().has(name) || chats.some((chat) => chat.id === this.current());
    node.addEventListener("toggle", () => {
      const names = closed();
      if (node.open) names.delete(name);
      else names.add(name);
      remember(CLOSED, [...names]);
    });
    return node;
  }

  rows(chats) {
    return element("ul", "", ...chats.map((chat) => this.row(chat)));
  }

  row(chat) {
    const link = directed(element("a", "", chat.title));
    link.href = address("/", { c: chat.id });
    link.title = chat.title;
    Object.assign(link.dataset, { id: chat.id, kind: "a" });
    link.addEventListener("click", (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      this.toggle(false);
      this.open(chat.id);
    });
    const more = element("button", "quiet more", "⋯");
    more.type = "button";
    more.setAttribute("aria-label", say("What to do with “{title}”", { title: chat.title }));
    more.setAttribute("aria-haspopup", "menu");
    more.setAttribute("aria-expanded", "false");
    Object.assign(more.dataset, { id: chat.id, kind: "button" });
    more.addEventListener("click", () => openChatMenu(chat, more, this));
    return element("li", "", link, more);
  }

  /** Mark the open conversation. */
  mark() {
    for (const link of this.nav.querySelectorAll("a")) {
      if (Number(link.dataset.id) === this.current()) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  /** Put the focus on a conversation's line, or where it would stand. */
  focus(id, kind = "a") {
    const found = this.nav.querySelector(`${kind}[data-id="${id}"]`) ?? this.nav.querySelector("a") ?? part("new");
    (found.checkVisibility() ? found : found.closest("details").querySelector("summary")).focus();
  }

  get folders() {
    return [...new Set(this.chats.map((chat) => chat.folder).filter(Boolean))].sort();
  }

  /** Go to the search box. */
  search() {
    this.toggle(true);
    this.field.focus();
    this.field.select();
  }

  leaveSearch(event) {
    if (event.key === "ArrowDown") this.nav.querySelector("a")?.focus();
    else if (event.key === "Escape" && this.field.value) {
      this.field.value = "";
      this.list();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  walk(event) {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const stops = [...this.nav.querySelectorAll("a, summary")].filter((one) => one.checkVisibility());
    const line = document.activeElement.closest("li")?.querySelector("a") ?? document.activeElement;
    event.preventDefault();
    (stops[stops.indexOf(line) + (event.key === "ArrowDown" ? 1 : -1)] ?? this.field).focus();
  }

  get isOpen() {
    return !part("veil").hidden;
  }

  /** On a phone the list is a drawer, over a page that waits. */
  toggle(wanted) {
    const isOpen = wanted && narrow.matches;
    const hadFocus = this.isOpen && part("history").contains(document.activeElement);
    document.body.classList.toggle("history-open", isOpen);
    document.querySelector(".column").inert = isOpen;
    part("veil").hidden = !isOpen;
    part("history-open").setAttribute("aria-expanded", String(isOpen));
    if (isOpen) part("history-close").focus();
    else if (hadFocus && narrow.matches) part("history-open").focus();
  }
}

function found(count) {
  if (!count) return say("Nothing found.");
  return count === 1 ? say("1 conversation found") : say("{count} conversations found", { count });
}

/** The heading under which a conversation of this age stands. */
function age(created) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  const begun = new Date(created).getTime();
  if (begun >= midnight) return say("Today");
  if (begun >= midnight - DAY) return say("Yesterday");
  return begun >= midnight - 7 * DAY ? say("The last seven days") : say("Earlier");
}

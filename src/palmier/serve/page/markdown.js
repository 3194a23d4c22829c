// Markdown to DOM nodes. Text only ever becomes text: no markup of the answer is parsed as HTML,
// so a script or an image in it is shown as what was written.

import { codeBlock, growCode, paintAgain } from "./code.js";
import { directed, element } from "./element.js";
import { decode } from "./entities.js";
import { lex, lexFurther } from "./lexer.js";
import { formula } from "./maths.js";
import { say } from "./words.js";

const SCHEMES = new Set(["http:", "https:", "mailto:"]);
const SILENT = new Set(["space", "def"]); // tokens that show nothing

/** Container → what update() showed in it: the text, its tokens, and one node for each that shows something. */
const shown = new WeakMap();

/** A fragment that shows `text`; what is not Markdown stands there as it was written. */
export function render(text) {
  const fragment = document.createDocumentFragment();
  fragment.append(...nodesOf(lex(text)));
  return fragment;
}

/** Make `container` show `text`, keeping the nodes of what has not changed: for an answer that grows. */
export function update(container, text) {
  const before = shown.get(container);
  const isOurs = before?.nodes.length === container.childNodes.length && before.nodes.every(isChildOf(container));
  if (isOurs && before.text === text) {
    paintAgain(container);
    return;
  }
  const tokens = isOurs && text.startsWith(before.text) ? lexFurther(text, before.tokens) : lex(text);
  const visible = tokens.filter((token) => !SILENT.has(token.type));
  const links = JSON.stringify(tokens.filter((token) => token.type === "def"));
  const nodes = isOurs && before.links === links ? keep(before, visible) : [];
  for (const token of visible.slice(nodes.length)) nodes.push(block(token));
  replaceFrom(container, nodes);
  shown.set(container, { text, tokens, visible, links, nodes });
}

const isChildOf = (container) => (node, place) => container.childNodes[place] === node;

/** The nodes that still show the first of `tokens`; a block of code that goes on stays, and grows. */
function keep(before, tokens) {
  let same = 0;
  while (same < Math.min(before.visible.length, tokens.length) && before.visible[same].raw === tokens[same].raw) same += 1;
  const nodes = before.nodes.slice(0, same);
  const [old, next] = [before.visible[same], tokens[same]];
  const isCode = old?.type === "code" && next?.type === "code" && languageOf(old) === languageOf(next);
  if (isCode && growCode(before.nodes[same], next.text)) nodes.push(before.nodes[same]);
  return nodes;
}

function replaceFrom(container, nodes) {
  const { childNodes } = container;
  let same = 0;
  while (same < nodes.length && childNodes[same] === nodes[same]) same += 1;
  while (childNodes.length > same) container.lastChild.remove();
  container.append(...nodes.slice(same));
}

const nodesOf = (tokens) => tokens.filter((token) => !SILENT.has(token.type)).map(block);
const languageOf = (token) => /^[\w+#.-]{1,30}/.exec(token.lang ?? "")?.[0] ?? "";

const BLOCKS = {
  heading: ({ depth, tokens }) => directed(element(`h${Math.min(depth + 2, 6)}`, "", ...inline(tokens))),
  paragraph: ({ tokens }) => directed(element("p", "", ...inline(tokens))),
  text: (token) => directed(element("p", "", ...inline([token]))),
  code: (token) => codeBlock(token.text, languageOf(token)),
  blockquote: ({ tokens }) => holder("blockquote", "", nodesOf(tokens)),
  formula: ({ text, raw, isDisplayed }) => element("p", "", formula(text, raw.trim(), isDisplayed)),
  hr: () => element("hr"),
  list,
  table,
};

/** The node of a token that stands between blank lines; what isn't known stands there as it was written. */
function block(token) {
  return BLOCKS[token.type]?.(token) ?? directed(element("p", "raw", token.raw.trimEnd()));
}

/** What holds blocks runs as the first of them: for that its letters count only where it has no direction of its own. */
function holder(name, className, children) {
  if (children[0]?.dir === "auto") children[0].removeAttribute("dir");
  return directed(element(name, className, ...children));
}

function list({ ordered, start, items }) {
  const node = holder(ordered ? "ol" : "ul", "", items.map(listItem));
  if (ordered && start !== 1) node.start = start;
  return node;
}

function listItem({ task, loose, tokens }) {
  const isTight = (token) => token.type === "checkbox" || (token.type === "text" && !loose);
  const visible = tokens.filter((token) => !SILENT.has(token.type));
  const children = visible.flatMap((token) => (isTight(token) ? inline([token]) : [block(token)]));
  return holder("li", task ? "task" : "", children);
}

function table({ header, rows }) {
  const row = (cells, name) => element("tr", "", ...cells.map((cell) => tableCell(cell, name)));
  const head = element("thead", "", row(header, "th"));
  const body = element("tbody", "", ...rows.map((cells) => row(cells, "td")));
  const box = directed(element("div", "table", element("table", "", head, body)));
  box.tabIndex = 0; // so that the keyboard can scroll it
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", say("Table"));
  return box;
}

function tableCell({ tokens, align }, name) {
  const node = element(name, align && align !== "left" ? `to-${align}` : "", ...inline(tokens));
  if (name === "td") return directed(node);
  node.scope = "col"; // the first line runs as the whole table does
  return node;
}

const INLINE = {
  text: (token) => (token.tokens ? inline(token.tokens) : [token.escaped ? token.text : decode(token.raw)]),
  escape: ({ text }) => [text],
  strong: ({ tokens }) => [element("strong", "", ...inline(tokens))],
  em: ({ tokens }) => [element("em", "", ...inline(tokens))],
  del: ({ tokens }) => [element("del", "", ...inline(tokens))],
  codespan: ({ text }) => [Object.assign(element("code", "", text), { dir: "ltr" })],
  br: () => [element("br")],
  html: ({ raw }) => [/^<br\s*\/?>$/i.test(raw) ? element("br") : raw], // in a table the one way to break a line
  formula: ({ text, raw, isDisplayed }) => [formula(text, raw, isDisplayed)],
  checkbox: ({ checked }) => [checkbox(checked), " "],
  link,
  image,
};

function inline(tokens) {
  return tokens.flatMap((token) => INLINE[token.type]?.(token) ?? [token.raw]);
}

function checkbox(isChecked) {
  const box = element("span", "box", isChecked ? "☑" : "☐");
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", isChecked ? say("Done") : say("To do"));
  return box;
}

function link({ href, raw, tokens }) {
  const address = safeAddress(href);
  if (!address) return [raw];
  // A picture that is a link is already shown as a link, and a link in a link is none.
  const children = inline(tokens).map((node) => (node.localName === "a" ? node.textContent : node));
  return [anchor(address, children)];
}

/** Pictures are never loaded: that would tell their server who reads this, and when. */
function image({ href, raw, text }) {
  const address = safeAddress(href);
  return address ? [anchor(address, [`${decode(text) || say("Picture")} (${address})`])] : [raw];
}

function anchor(address, children) {
  const node = element("a", "", ...children);
  node.href = address;
  node.rel = "noopener noreferrer nofollow";
  node.target = "_blank";
  if (node.textContent !== address) node.title = address;
  return node;
}

/** The address as the browser reads it, or null where it leads to nothing but the web or a mailbox. */
function safeAddress(href) {
  try {
    const url = new URL(decode(href));
    return SCHEMES.has(url.protocol) ? url.href : null;
  } catch {
    return null; // not a whole address
  }
}

// Blocks of code: their language, a button that copies them, and colours once the highlighter has arrived.

import { copyText, element } from "./element.js";
import { say } from "./words.js";

const LONGEST = 30_000; // characters; a longer block, or one with a longer line, stays without colours
const LONGEST_LINE = 5000;
const PAUSE = 200; // milliseconds between two looks at code that grows
const SLICE = 8; // milliseconds of highlighting after which the page gets its turn
const REMEMBERED = 300; // blocks whose colours are kept

/** A language's file in vendor/highlight, the other names it goes by, and what it may hold inside it. */
const LANGUAGES = {
  bash: { names: ["sh", "zsh"] },
  c: { names: ["h"] },
  cpp: { names: ["c++", "cc", "hpp", "cxx"] },
  css: {},
  diff: { names: ["patch"] },
  go: { names: ["golang"] },
  ini: { names: ["toml"] },
  java: {},
  javascript: { names: ["js", "jsx", "mjs", "cjs"] },
  json: { names: ["jsonc", "json5"] },
  markdown: { names: ["md"], holds: ["xml"] },
  python: { names: ["py", "python3", "gyp"] },
  rust: { names: ["rs"] },
  shell: { names: ["console", "shellsession", "terminal"], holds: ["bash"] },
  sql: { names: ["mysql", "postgresql", "postgres", "sqlite"] },
  typescript: { names: ["ts", "tsx"] },
  xml: { names: ["html", "xhtml", "svg", "rss"], holds: ["css", "javascript"] },
  yaml: { names: ["yml"] },
};
const FILES = new Map(
  Object.entries(LANGUAGES).flatMap(([file, { names = [] }]) => [file, ...names].map((name) => [name, file])),
);

/** The highlighter's scopes → our colours (code.css); any other scope looks like what is around it. */
const KINDS = {
  keyword: "keyword", operator: "", punctuation: "", built_in: "type", type: "type", class: "type", literal: "number",
  number: "number", symbol: "number", bullet: "number", string: "string", regexp: "string", link: "string", code: "string",
  comment: "comment", quote: "comment", doctag: "meta", meta: "meta", title: "title", section: "title", name: "title",
  function: "title", attr: "attr", attribute: "attr", property: "attr", variable: "attr", "template-variable": "attr",
  "selector-tag": "title", "selector-class": "attr", "selector-id": "attr", "selector-attr": "attr",
  "selector-pseudo": "attr", addition: "addition", deletion: "deletion", subst: "plain", prompt: "meta",
}; // prettier-ignore

/** Code element → {text, file}; and the elements whose colours are not those of their text yet. */
const blocks = new WeakMap();
const waiting = new Set();
const known = new Map(); // file + text → runs, the last used at the end
const languages = new Map(); // file → promise of it
const arrived = new Map(); // file → whether it could be had
let core = null;
let timer = 0;
let last = 0;

/** A block that shows `text`, written in `language` ("" where that is not known). */
export function codeBlock(text, language) {
  const code = element("code");
  const pre = element("pre", "", code);
  pre.tabIndex = 0; // so that the keyboard can scroll it
  const copy = element("button", "quiet", say("Copy"));
  copy.type = "button";
  copy.addEventListener("click", () => copyText(blocks.get(code).text, copy));
  blocks.set(code, { text: "", file: FILES.get(language.toLowerCase()) });
  show(code, text);
  const head = element("header", "", element("span", "", language || say("code")), copy);
  return Object.assign(element("div", "codeblock", head, pre), { dir: "ltr" }); // within whichever text
}

/** Let a block's text go on to `text`; false where that is not how it begins. */
export function growCode(block, text) {
  const code = block.querySelector("code");
  const before = blocks.get(code);
  if (!text.startsWith(before.text)) return false;
  const tail = text.slice(before.text.length);
  before.text = text;
  if (!tail) return true;
  code.append(tail);
  later(code);
  return true;
}

/** Colour what is in `container` and was not in the page when its turn came. */
export function paintAgain(container) {
  for (const code of container.querySelectorAll("code.uncoloured")) later(code);
}

function show(code, text) {
  const block = blocks.get(code);
  block.text = text;
  const runs = block.file && remembered(block.file, text);
  if (runs) {
    paint(code, runs);
    return;
  }
  // While it grows, what was coloured a moment ago is still right: colours do not come and go.
  const begun = block.file && beginning(block.file, text);
  paint(code, begun ? [...begun.runs, ["", text.slice(begun.text.length)]] : [["", text]]);
  later(code);
}

function later(code) {
  const { text, file } = blocks.get(code);
  if (!file || text.length > LONGEST || hasLongLine(text)) return;
  code.classList.add("uncoloured");
  waiting.add(code);
  timer ||= setTimeout(colour, Math.max(0, PAUSE - (performance.now() - last)));
}

async function colour() {
  await Promise.all([...waiting].map((code) => load(blocks.get(code).file)));
  last = performance.now();
  timer = 0;
  for (const code of waiting) {
    const { text, file } = blocks.get(code);
    const isArrived = arrived.has(file); // another block may have come while its like were awaited
    if (!timer && (!isArrived || performance.now() - last > SLICE)) timer = setTimeout(colour, 0);
    if (!isArrived || performance.now() - last > SLICE) continue;
    waiting.delete(code);
    // What has left the page is coloured when it comes back: paintAgain().
    if (code.isConnected && arrived.get(file)) paint(code, remembered(file, text) ?? highlight(file, text));
  }
}

const hasLongLine = (text) => text.length > LONGEST_LINE && text.split("\n").some((line) => line.length > LONGEST_LINE);

/** Settles when the language's file is there, or can't be had: then its code stays without colours. */
function load(file) {
  if (!languages.has(file)) {
    const settle = (isThere) => () => arrived.set(file, isThere);
    languages.set(file, register(file).then(settle(true), settle(false)));
  }
  return languages.get(file);
}

async function register(file) {
  const [highlighter, grammar] = await Promise.all([
    import("./vendor/highlight/core.min.js"),
    import(`./vendor/highlight/${file}.min.js`),
    ...(LANGUAGES[file].holds ?? []).map(load),
  ]);
  core = highlighter.default;
  core.registerLanguage(file, grammar.default);
}

/** `text` as runs of one colour: [kind, text]. */
function highlight(file, text) {
  const { _emitter: tree } = core.highlight(text, { language: file, ignoreIllegals: true });
  const runs = [];
  const open = [{ kind: "", node: tree.rootNode, at: 0 }];
  while (open.length) {
    const here = open.at(-1);
    const child = here.node.children[here.at];
    here.at += 1;
    if (child === undefined) open.pop();
    else if (typeof child === "string") add(runs, here.kind, child);
    else open.push({ kind: kindOf(child.scope) || here.kind, node: child, at: 0 });
  }
  const begun = beginning(file, text);
  if (begun) known.delete(`${file} ${begun.text}`); // of a block that grows the newest state is enough
  else if (known.size >= REMEMBERED) known.delete(known.keys().next().value);
  known.set(`${file} ${text}`, { file, text, runs });
  return runs;
}

const kindOf = (scope = "") => KINDS[scope] ?? (scope.startsWith("title.class") ? "type" : KINDS[scope.split(".")[0]]);

function add(runs, kind, text) {
  if (runs.at(-1)?.[0] === kind) runs.at(-1)[1] += text;
  else runs.push([kind, text]);
}

function remembered(file, text) {
  const key = `${file} ${text}`;
  const found = known.get(key);
  if (!found) return undefined;
  known.delete(key);
  known.set(key, found);
  return found.runs;
}

/** What was coloured last of a block that began as `text` does. */
function beginning(file, text) {
  const recent = [...known.values()].slice(-6);
  return recent.findLast((entry) => entry.file === file && entry.text && text.startsWith(entry.text));
}

function paint(code, runs) {
  code.classList.remove("uncoloured");
  code.replaceChildren(...runs.map(([kind, text]) => (kind && kind !== "plain" ? element("span", `hl-${kind}`, text) : text)));
}

// Formulas: TeX to MathML by Temml, which is fetched with the first one. Its tree is walked, and the nodes are made
// here: only MathML's elements and attributes, no addresses, no ids. What it can't read is shown as it was written.

import { element } from "./element.js";

const SCRIPT = "/page/vendor/temml/temml.min.js";
const STYLE = "/page/maths.css";
const NAMESPACE = "http://www.w3.org/1998/Math/MathML";
const DEEPEST = 60;
const MOST = 4000; // nodes of one formula
const SLICE = 8; // milliseconds of formulas after which the page gets its turn
const REMEMBERED = 500;
const WIDE = 50; // characters from which a displayed formula may have to be scrolled

const words = (text) => new Set(text.split(" "));
const ELEMENTS = words(
  "math mrow mi mn mo ms mtext mspace mfrac msqrt mroot mstyle mpadded mphantom msub msup msubsup munder mover " +
    "munderover mmultiscripts mprescripts none mtable mtr mtd menclose semantics",
);
const ATTRIBUTES = words(
  "accent accentunder columnalign columnlines columnspacing columnspan depth display displaystyle fence form height " +
    "largeop linethickness lspace mathbackground mathcolor mathsize mathvariant maxsize minsize movablelimits notation " +
    "rowalign rowlines rowspacing rowspan rspace scriptlevel separator stretchy symmetric voffset width",
);
const STYLES = /^[\w\s.,%#+-]*$/; // no address, no function

const waiting = new Set();
const known = new Map(); // mode + source → a node to copy, or null where it can't be read
let temml = null;
let loading = null;
let spent = 0; // milliseconds of this turn of the page's

/** An element that shows the formula `source`; `raw` is what was written, and stands there until it is typeset. */
export function formula(source, raw, isDisplayed) {
  const node = element("span", isDisplayed ? "formula displayed" : "formula", raw);
  node.dir = "ltr"; // within whichever text
  if (isDisplayed && raw.length > WIDE) node.tabIndex = 0; // so that the keyboard can scroll it
  const job = { node, source, isDisplayed };
  if (known.has(key(job)) || (temml && spent < SLICE)) typeset(job);
  else later(job);
  return node;
}

const key = ({ source, isDisplayed }) => `${isDisplayed} ${source}`;

async function later(job) {
  waiting.add(job);
  if (waiting.size > 1) return;
  try {
    loading ??= load();
    await loading;
  } catch {
    waiting.clear(); // without the file a formula stays as it was written
    return;
  }
  setTimeout(typesetSome, 0);
}

function typesetSome() {
  spent = 0;
  for (const job of waiting) {
    if (spent > SLICE) break;
    waiting.delete(job);
    typeset(job);
  }
  if (waiting.size) setTimeout(typesetSome, 0);
  else spent = 0;
}

async function load() {
  const style = element("link");
  style.rel = "stylesheet";
  style.href = STYLE;
  const script = element("script");
  script.src = SCRIPT;
  await new Promise((resolve, reject) => {
    script.addEventListener("load", resolve);
    script.addEventListener("error", reject);
    document.head.append(style, script);
  });
  temml = globalThis.temml;
}

function typeset(job) {
  const began = performance.now();
  if (!known.has(key(job))) {
    if (known.size >= REMEMBERED) known.delete(known.keys().next().value);
    known.set(key(job), read(job));
  }
  const math = known.get(key(job));
  if (math) job.node.replaceChildren(math.cloneNode(true));
  if (!spent) setTimeout(() => (spent = 0), 0);
  spent += performance.now() - began;
}

/** The formula's node; null where Temml can't read it, or where it is past a bound. */
function read({ source, isDisplayed }) {
  const bounds = { maxExpand: 100, maxSize: [20, 240] }; // em, points
  const how = { displayMode: isDisplayed, wrap: "tex", throwOnError: true, trust: false, ...bounds };
  try {
    return build(temml.__renderToMathMLTree(source, how), { depth: 0, count: 0 });
  } catch {
    return null; // wrong TeX, too much of it, or Temml's own mistake: the reader sees what was written
  }
}

function build(tree, at) {
  at.count += 1;
  if (at.count > MOST || at.depth > DEEPEST) throw new Error("no formula of ours");
  if (tree.text !== undefined) return document.createTextNode(tree.text);
  if (tree.href || tree.src || !tree.children) throw new Error("no formula of ours");
  at.depth += 1;
  const children = tree.children.map((child) => build(child, at));
  at.depth -= 1;
  const node = tree.type ? start(tree) : document.createDocumentFragment();
  node.append(...children);
  return node;
}

function start({ type, attributes, classes, style }) {
  if (!ELEMENTS.has(type)) throw new Error("no formula of ours"); // nothing that MathML knows
  const node = document.createElementNS(NAMESPACE, type);
  for (const [name, value] of Object.entries(attributes)) if (ATTRIBUTES.has(name)) node.setAttribute(name, value);
  for (const [name, value] of Object.entries(style)) if (STYLES.test(value)) node.style[name] = value; // CSSOM: the policy allows it
  const named = classes.filter((name) => /^[\w-]+$/.test(name));
  if (named.length) node.setAttribute("class", named.join(" "));
  return node;
}

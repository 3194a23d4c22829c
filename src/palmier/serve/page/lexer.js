// Markdown to marked's tokens, within bounds: whatever a model writes, reading it takes a moment and no deep stack.
// What is past a bound stands there as plain text.

import { getDefaults, Lexer, Tokenizer } from "./vendor/marked/marked.esm.js";

const DEEPEST = 16; // quotes, lists and emphasis inside one another
const LONGEST = 10_000; // characters of one line, or of one paragraph, that are still read as Markdown
const FORMULA = 3000; // characters of the longest formula
const COLUMNS = 40;
const CELLS = 10_000; // a row may be two characters and yet as wide as the table's head
const BLOCKS = 4000; // paragraphs, items, blocks of code … that a browser still lays out in a moment
const MILLISECONDS = 300; // for one text; what is not read by then is plain

const DEFINITION = /^ {0,3}\[[^\]\n]{1,999}\]:/m;
const DISPLAY = /^ {0,3}(\$\$|\\\[)/;
const BEFORE_DISPLAY = /\n {0,3}(?:\$\$|\\\[)/;
const DOLLARS = /^\$((?:\\[^\n]|[^$\\\n]){1,400})\$(?![\d$])/;
const AMOUNT = /^\d[^\\^_=]*\s[^\\^_=]*[a-z]{2}/i; // "$5 for you, 10$" is no formula

/** `text` as marked's tokens; `raw` joined is the text again, line ends as \n. */
export function lex(text) {
  try {
    return new BoundedLexer().lex(text);
  } catch (error) {
    console.error(error); // marked's own complaint of a text that it can't get past: an answer is shown all the same
    return [plain(text)];
  }
}

/** As lex(`text`), where `before` were the tokens of what it began with: only its end is read again. */
export function lexFurther(text, before) {
  const kept = before.slice(0, -2); // the last block may go on, and a blank line may stand behind it
  const length = kept.reduce((sum, token) => sum + token.raw.length, 0);
  const isPlain = text.includes("\r") || DEFINITION.test(text); // a definition reaches back to links before it
  if (!length || isPlain || !begins(text, kept)) return lex(text);
  return [...kept, ...lex(text.slice(length))];
}

function begins(text, tokens) {
  let at = 0;
  for (const { raw } of tokens) {
    if (!text.startsWith(raw, at)) return false;
    at += raw.length;
  }
  return true;
}

class BoundedTokenizer extends Tokenizer {
  table(src) {
    const [head, rule = ""] = src.split("\n", 2);
    if (!rule.includes("-")) return undefined;
    const columns = head.split("|").length;
    const end = src.indexOf("\n\n");
    const rows = (end < 0 ? src : src.slice(0, end)).split("\n").length;
    return columns > COLUMNS || columns * rows > CELLS ? undefined : super.table(src);
  }
}

class BoundedLexer extends Lexer {
  constructor() {
    const extensions = {
      block: [restOfBlocks, longLine, displayFormula],
      inline: [restOfLine, formula],
      startBlock: [beforeDisplay],
      startInline: [(src) => src.indexOf("$")],
    };
    super({ ...getDefaults(), gfm: true, breaks: true, extensions, tokenizer: new BoundedTokenizer() });
    this.depth = 0;
    this.blocks = 0;
    this.deadline = performance.now() + MILLISECONDS;
  }

  lex(text) {
    this.hasDisplay = text.includes("$$") || text.includes("\\[");
    return super.lex(text);
  }

  get isSpent() {
    return this.depth > DEEPEST || performance.now() > this.deadline;
  }

  blockTokens(...given) {
    return this.deeper(() => super.blockTokens(...given));
  }

  inlineTokens(...given) {
    return this.deeper(() => super.inlineTokens(...given));
  }

  deeper(read) {
    this.depth += 1;
    try {
      return read();
    } finally {
      this.depth -= 1;
    }
  }
}

const plain = (raw) => ({ type: "plain", raw, text: raw });

function restOfBlocks(src) {
  this.lexer.blocks += 1;
  return this.lexer.isSpent || this.lexer.blocks > BLOCKS ? plain(src) : undefined;
}

function restOfLine(src) {
  return src.length > LONGEST || this.lexer.isSpent ? plain(src) : undefined;
}

function longLine(src) {
  const end = src.indexOf("\n");
  const length = end < 0 ? src.length : end + 1;
  return length > LONGEST ? plain(src.slice(0, length)) : undefined;
}

function beforeDisplay(src) {
  if (!this.lexer.hasDisplay) return -1;
  const end = src.indexOf("\n\n");
  const at = src.slice(0, end < 0 ? LONGEST : Math.min(end, LONGEST)).search(BEFORE_DISPLAY);
  return at < 0 ? at : at + 1;
}

/** A displayed formula that begins a line and ends one: a block of its own. */
function displayFormula(src) {
  const opening = DISPLAY.exec(src);
  if (!opening) return undefined;
  const found = between(src, opening[0].length, opening[1] === "$$" ? "$$" : "\\]", true);
  const rest = found && /^[ \t]*([.,;]?)[ \t]*(?:\n|$)/.exec(src.slice(found.raw.length, found.raw.length + 40));
  return rest ? { ...found, raw: found.raw + rest[0], text: found.text + rest[1] } : undefined;
}

function formula(src, before) {
  if (src.startsWith("\\(")) return between(src, 2, "\\)", false);
  if (src.startsWith("\\[")) return between(src, 2, "\\]", true);
  if (src[0] !== "$") return undefined;
  if (src.startsWith("$$")) return between(src, 2, "$$", true);
  const found = DOLLARS.exec(src);
  const isGlued = /[\w$\\]$/.test(before.at(-1)?.raw.slice(-1) ?? "");
  if (!found || isGlued || found[1].trim() !== found[1] || AMOUNT.test(found[1])) return undefined;
  return { type: "formula", raw: found[0], text: found[1], isDisplayed: false };
}

function between(src, start, close, isDisplayed) {
  const end = src.slice(0, FORMULA).indexOf(close, start);
  const text = src.slice(start, end);
  if (end < 0 || !text.trim() || /\n\s*\n/.test(text)) return undefined;
  return { type: "formula", raw: src.slice(0, end + close.length), text, isDisplayed };
}

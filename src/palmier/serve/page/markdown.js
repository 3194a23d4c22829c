// Markdown to DOM nodes. Text only ever becomes text: no markup of the answer is parsed as HTML,
// so a script or an image in it is shown as what was written.

const DEPTH = 6;
const LONGEST = 5000; // a line beyond this is no prose, and is shown as it is
const FENCE = /^\s{0,3}(```+|~~~+)\s*([\w+#.-]*)/;
const HEADING = /^\s{0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^\s{0,3}([-*_])(\s*\1){2,}\s*$/;
const QUOTE = /^\s{0,3}>\s?(.*)$/;
const ITEM = /^(\s*)([-*+•]|\d{1,4}[.)])\s+(.*)$/;
const INLINE =
  /(`+)([^`]|[^`].*?[^`])\1(?!`)|\*\*(\S(?:.*?\S)?)\*\*|__(\S(?:.*?\S)?)__(?!\w)|\*(\S(?:[^*]*?\S)?)\*(?!\*)|(?<!\w)_(\S(?:[^_]*?\S)?)_(?!\w)|\[([^\]\n]{1,300})\]\((https?:\/\/[^\s)]{1,2000})\)|(https?:\/\/[^\s<>"')\]]{1,2000})/;

/** A fragment that shows `text`; what is not Markdown stands there as it was written. */
export function render(text) {
  const fragment = document.createDocumentFragment();
  fragment.append(...blocks(text.replace(/\r\n?/g, "\n").split("\n"), 0));
  return fragment;
}

/** An element with a class and children (strings become text). */
export function element(name, className = "", ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

function blocks(lines, depth) {
  const nodes = [];
  let paragraph = [];
  const close = () => {
    if (paragraph.length) nodes.push(element("p", "", ...withBreaks(paragraph)));
    paragraph = [];
  };
  for (let at = 0; at < lines.length; ) {
    const line = lines[at];
    const fence = FENCE.exec(line);
    const heading = HEADING.exec(line);
    if (fence) {
      close();
      at = takeCode(lines, at, fence, nodes);
    } else if (heading) {
      close();
      nodes.push(element(heading[1].length < 3 ? "h3" : "h4", "", ...inline(heading[2], 0)));
      at += 1;
    } else if (RULE.test(line)) {
      close();
      nodes.push(element("hr"));
      at += 1;
    } else if (QUOTE.test(line) && depth < DEPTH) {
      close();
      const quoted = [];
      for (; at < lines.length && QUOTE.test(lines[at]); at += 1) quoted.push(QUOTE.exec(lines[at])[1]);
      nodes.push(element("blockquote", "", ...blocks(quoted, depth + 1)));
    } else if (ITEM.test(line) && depth < DEPTH) {
      close();
      at = takeList(lines, at, nodes, depth);
    } else {
      if (line.trim()) paragraph.push(line);
      else close();
      at += 1;
    }
  }
  close();
  return nodes;
}

function takeCode(lines, start, fence, nodes) {
  const body = [];
  let at = start + 1;
  const ends = (line) => line.trim().startsWith(fence[1]) && !line.trim().slice(fence[1].length).trim();
  for (; at < lines.length && !ends(lines[at]); at += 1) body.push(lines[at]);
  nodes.push(codeBlock(body.join("\n"), fence[2]));
  return at + 1;
}

function codeBlock(text, language) {
  const copy = element("button", "quiet", "Copy");
  copy.type = "button";
  copy.addEventListener("click", () => copyText(text, copy));
  const pre = element("pre", "", element("code", "", text));
  pre.tabIndex = 0; // so that the keyboard can scroll it
  return element("div", "codeblock", element("header", "", element("span", "", language || "code"), copy), pre);
}

/** Copy `text` and let `button` say so for a moment. */
export async function copyText(text, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Can't copy here";
  }
  setTimeout(() => (button.textContent = label), 1500);
}

function takeList(lines, start, nodes, depth) {
  const [, indent, mark] = ITEM.exec(lines[start]);
  const ordered = /\d/.test(mark);
  const list = element(ordered ? "ol" : "ul");
  if (ordered) list.start = Number.parseInt(mark, 10);
  let at = start;
  while (at < lines.length) {
    const item = ITEM.exec(lines[at]);
    if (!item || item[1].length > indent.length + 1 || /\d/.test(item[2]) !== ordered) break;
    const inner = [item[3]];
    at += 1;
    for (; at < lines.length && belongs(lines, at, indent.length); at += 1) {
      inner.push(lines[at].replace(new RegExp(`^\\s{0,${indent.length + 4}}`), ""));
    }
    list.append(element("li", "", ...unwrapped(blocks(inner, depth + 1))));
    while (at < lines.length && !lines[at].trim() && ITEM.test(lines[at + 1] ?? "")) at += 1;
  }
  nodes.push(list);
  return at;
}

/** Does line `at` go on with a list item that begins `indent` spaces in? */
function belongs(lines, at, indent) {
  const line = lines[at];
  const item = ITEM.exec(line);
  if (item) return item[1].length > indent + 1;
  if (!line.trim()) {
    const next = lines[at + 1] ?? "";
    return next.trim() !== "" && !ITEM.test(next) && /^\s{2,}/.test(next) && next.search(/\S/) > indent;
  }
  return line.search(/\S/) > indent || (lines[at - 1] ?? "").trim() !== "";
}

function unwrapped(nodes) {
  if (nodes[0]?.localName !== "p") return nodes;
  return [...nodes[0].childNodes, ...nodes.slice(1)];
}

function withBreaks(lines) {
  return lines.flatMap((line, number) => [...(number ? [element("br")] : []), ...inline(line.trim(), 0)]);
}

function inline(text, depth) {
  const nodes = [];
  let rest = text;
  while (rest) {
    const found = depth < DEPTH && rest.length < LONGEST ? INLINE.exec(rest) : null;
    if (!found) return [...nodes, rest];
    if (found.index) nodes.push(rest.slice(0, found.index));
    nodes.push(span(found, depth));
    rest = rest.slice(found.index + found[0].length);
  }
  return nodes;
}

function span(found, depth) {
  const [whole, ticks, code, bold, bold2, italic, italic2, label, address, bare] = found;
  if (ticks) return element("code", "", code.trim() || code);
  if (bold || bold2) return element("strong", "", ...inline(bold || bold2, depth + 1));
  if (italic || italic2) return element("em", "", ...inline(italic || italic2, depth + 1));
  if (address || bare) {
    const link = element("a", "", label || bare);
    link.href = address || bare;
    link.rel = "noopener noreferrer nofollow";
    link.target = "_blank";
    return link;
  }
  return whole;
}

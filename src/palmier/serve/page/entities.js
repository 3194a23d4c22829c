// HTML's character references in Markdown text, decoded without a HTML parser: numbers, and the names people write.

const NAMED = {
  amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", ensp: "\u2002", emsp: "\u2003", thinsp: "\u2009",
  copy: "©", reg: "®", trade: "™", hellip: "…", mdash: "—", ndash: "–", lsquo: "‘", rsquo: "’", ldquo: "“", rdquo: "”",
  sbquo: "‚", bdquo: "„", laquo: "«", raquo: "»", bull: "•", middot: "·", sect: "§", para: "¶", deg: "°", micro: "µ",
  plusmn: "±", times: "×", divide: "÷", minus: "−", frac12: "½", frac14: "¼", frac34: "¾", sup2: "²", sup3: "³",
  euro: "€", pound: "£", yen: "¥", cent: "¢", larr: "←", uarr: "↑", rarr: "→", darr: "↓", harr: "↔", rArr: "⇒",
  le: "≤", ge: "≥", ne: "≠", asymp: "≈", equiv: "≡", infin: "∞", sum: "∑", prod: "∏", radic: "√", part: "∂", int: "∫",
  isin: "∈", notin: "∉", cap: "∩", cup: "∪", sub: "⊂", sup: "⊃", forall: "∀", exist: "∃", empty: "∅", nabla: "∇",
  alpha: "α", beta: "β", gamma: "γ", delta: "δ", epsilon: "ε", theta: "θ", lambda: "λ", mu: "μ", pi: "π", rho: "ρ",
  sigma: "σ", tau: "τ", phi: "φ", chi: "χ", psi: "ψ", omega: "ω", Gamma: "Γ", Delta: "Δ", Sigma: "Σ", Omega: "Ω",
  auml: "ä", ouml: "ö", uuml: "ü", Auml: "Ä", Ouml: "Ö", Uuml: "Ü", szlig: "ß", eacute: "é", egrave: "è", agrave: "à",
  ccedil: "ç", ntilde: "ñ", check: "✓", cross: "✗", star: "☆", hearts: "♥",
}; // prettier-ignore
const REFERENCE = /&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([A-Za-z][A-Za-z0-9]{1,9}));/g;

/** `text` with its character references as characters; an unknown one stays as it was written. */
export function decode(text) {
  if (!text.includes("&")) return text;
  return text.replace(REFERENCE, (whole, decimal, hexadecimal, name) => {
    if (name) return Object.hasOwn(NAMED, name) ? NAMED[name] : whole;
    const point = decimal ? Number.parseInt(decimal, 10) : Number.parseInt(hexadecimal, 16);
    const isCharacter = point > 0 && point <= 0x10ffff && !(point >= 0xd800 && point <= 0xdfff);
    return isCharacter ? String.fromCodePoint(point) : "\ufffd";
  });
}

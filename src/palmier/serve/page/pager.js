// ‹ 2/3 ›: the alternatives to a message, and the way from one to the next.

import { element } from "./element.js";
import { say } from "./words.js";

/** The steps through `siblings` from `message` on; nothing where it is the only one. A list, to be put before other tools. */
export function pager(siblings, message, label, actions) {
  if (siblings.length < 2) return [];
  const at = siblings.indexOf(message);
  const step = (change, words) => {
    const button = element("button", change < 0 ? "quiet before" : "quiet after", change < 0 ? "‹" : "›");
    button.setAttribute("aria-label", words);
    // Not `disabled`: at the last one the keyboard would lose its place.
    const target = siblings[at + change];
    if (!target) button.setAttribute("aria-disabled", "true");
    button.addEventListener("click", () => target && actions.choose(target, button.className));
    return button;
  };
  const place = element("span", "place", `${at + 1}/${siblings.length}`);
  place.setAttribute("aria-label", say("{at} of {of}", { at: at + 1, of: siblings.length }));
  place.setAttribute("role", "img"); // read as its label
  const group = element("div", "pager", step(-1, say("The one before")), place, step(1, say("The one after")));
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", label);
  group.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    event.preventDefault();
    event.stopPropagation();
    group.querySelector(event.key === "ArrowLeft" ? ".before" : ".after").click();
  });
  return [group];
}

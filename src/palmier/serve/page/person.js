// The person's own part of the ranking page: consent, and how many rankings there are.

import { annotator, post, ServerError } from "./api.js";
import { copyText } from "./markdown.js";
import { notice } from "./state.js";

const part = (id) => document.getElementById(id);

/** Ask the question of consent where it was never answered, else say what was answered. */
export function showConsent({ consent, words }) {
  if (words) part("consent-words").textContent = words;
  const isAsked = consent === null;
  part("consent").hidden = !isAsked;
  part("consent-line").hidden = isAsked;
  part("consent-now").textContent = consent
    ? "They may be used for training."
    : "They are kept, and never used for training.";
}

async function answer(granted) {
  try {
    const found = await post("/api/rank/consent", { annotator, granted });
    showConsent(found);
    showCounts(found);
    part("consent-change").focus();
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    notice(error.message, true);
  }
}

export function showCounts({ count, usable, enough, command }) {
  part("progress").hidden = false;
  part("undo").hidden = count === 0;
  part("count").textContent = count === 1 ? "1 ranking" : `${count} rankings`;
  part("count-more").textContent =
    usable < enough ? `· ${usable} of ${enough} different requests that a first improvement needs` : "";
  part("meter").max = enough;
  part("meter").value = Math.min(usable, enough);
  part("enough").hidden = usable < enough;
  part("command").textContent = command;
}

part("consent-yes").addEventListener("click", () => answer(true));
part("consent-no").addEventListener("click", () => answer(false));
part("consent-change").addEventListener("click", () => {
  part("consent").hidden = false;
  part("consent-yes").focus();
});
part("command-copy").addEventListener("click", (event) => copyText(part("command").textContent, event.currentTarget));

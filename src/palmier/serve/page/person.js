// The person's own part of the ranking page: consent, and how many rankings there are.

import { annotator, post } from "./api.js";
import { attempt } from "./attempt.js";
import { copyText } from "./element.js";
import { language, say } from "./words.js";

const part = (id) => document.getElementById(id);

let wording = null; // the number of the words that are shown

/** Ask the question of consent where it was never answered, else say what was answered. */
export function showConsent({ consent, words, today }) {
  if (words) part("consent-words").textContent = words;
  wording = today ?? wording;
  const isAsked = consent === null;
  part("consent").hidden = !isAsked;
  part("consent-line").hidden = isAsked;
  part("consent-now").textContent = consent
    ? say("They may be used for training.")
    : say("They are kept, and never used for training.");
}

async function answer(granted) {
  const found = await attempt(() => post("/api/rank/consent", { annotator, granted, language, wording }));
  if (!found) return;
  showConsent(found);
  showCounts(found);
  part("consent-change").focus();
}

export function showCounts({ count, usable, enough, command }) {
  part("progress").hidden = false;
  part("undo").hidden = count === 0;
  part("count").textContent = count === 1 ? say("1 ranking") : say("{count} rankings", { count });
  part("count-more").textContent =
    usable < enough ? `· ${say("{usable} of {enough} different requests that a first improvement needs", { usable, enough })}` : "";
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

// What became of something that a person gave: the server's own sentences (feedback/fate.py), in the reader's language.

import { title } from "./state.js";
import { say } from "./words.js";

const WAITING = {
  ranking: () => say("kept: all answers tied, so there is no order to learn from"),
  label: () => say("kept: it is used once another answer to the same message gets the opposite thumb"),
  demonstration: () => say("kept: it stands above no other answer; it leaves by export"),
};

const SENTENCES = {
  used: ({ versions }) => say("used in version {versions}", { versions: versions.join(", ") }),
  next: () => say("used from the next improve on"),
  waiting: ({ kind }) => WAITING[kind](),
  off: () => say("kept, not used: you have not agreed to its use"),
  withdrawn: () => say("taken back: not used any more"),
};

/** `fate` as the server tells it: {kind, state, versions}. */
export function sentence(fate) {
  const said = SENTENCES[fate.state](fate);
  if (!fate.versions.length || !["off", "withdrawn"].includes(fate.state)) return said;
  return say("{sentence}; version {versions} was made with it", { sentence: said, versions: fate.versions.join(", ") });
}

/** What stands beside the answers that `item` judged: a map from their messages to sentences. */
export function besideAnswers(item) {
  const told = sentence(item);
  const { answers } = item;
  if (item.kind === "label") return new Map(answers.map((one) => [one.message, both(thumb(item.good), told)]));
  const best = answers.filter((one) => one.rank === 1);
  if (item.kind === "demonstration") return new Map(best.map((one) => [one.message, both(say("Your answer"), told)]));
  if (best.length === answers.length) {
    const verdict = item.good === false ? say("All bad") : say("A tie");
    return new Map(best.map((one) => [one.message, both(verdict, told)]));
  }
  return new Map(best.map((one) => [one.message, both(chosenOver(one, answers.filter((other) => other.rank > 1)), told)]));
}

const both = (what, told) => say("{what}: {sentence}", { what, sentence: told });

const thumb = (good) => (good ? say("Thumb up") : say("Thumb down"));

/** Now the names are told: whose answers `one` was chosen over. */
function chosenOver(one, others) {
  const names = [...new Set(others.map((other) => other.version))];
  if (names.length === 1 && names[0] === one.version) {
    return others.length === 1
      ? say("Chosen over another answer of the same version")
      : say("Chosen over {count} other answers of the same version", { count: others.length });
  }
  return say("Chosen over {names}", { names: names.map(title).join(", ") });
}

// A conversation out of a file that an export gave.

import { address, annotator, post, ServerError } from "./api.js";
import { notice } from "./state.js";
import { say } from "./words.js";

const MOST_BYTES = 1 << 20; // as the server has it: so nothing is sent only to be refused

/** Wire the button that takes a file in; `taken(number)` is called with the new conversation. */
export function offerImport(taken) {
  const field = document.getElementById("import-file");
  document.getElementById("import").addEventListener("click", () => field.click());
  field.addEventListener("change", async () => {
    const [file] = field.files;
    field.value = ""; // the same file may be chosen again
    if (!file) return;
    try {
      const { id } = await post(address("/api/conversations/import", { annotator }), await read(file));
      await taken(id);
      notice(say("“{name}” was taken in.", { name: file.name }));
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      notice(say("“{name}” can't be taken in: {why}", { name: file.name, why: error.message }), true);
    }
  });
}

async function read(file) {
  if (file.size > MOST_BYTES) throw new ServerError(say("it is larger than 1 MiB."));
  let value;
  try {
    value = JSON.parse(await file.text());
  } catch {
    throw new ServerError(say("it is no JSON file."));
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ServerError(say("it holds no conversation."));
  }
  return value;
}

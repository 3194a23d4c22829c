// What a person asked for, carried out; what the server refuses is said, the rest is a bug.

import { ServerError } from "./api.js";
import { notice } from "./state.js";

/** The result of `work`; undefined where the server refused it, which a notice tells, or `refused(error)` in its place. */
export async function attempt(work, refused = (error) => notice(error.message, true)) {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    await refused(error);
    return undefined;
  }
}

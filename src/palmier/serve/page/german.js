// German: what stands in the code in English → what a German reader sees. A test finds what is missing.

import { CHAT } from "./german/chat.js";
import { FEEDBACK } from "./german/feedback.js";
import { RANK } from "./german/rank.js";

export const GERMAN = { ...CHAT, ...FEEDBACK, ...RANK };

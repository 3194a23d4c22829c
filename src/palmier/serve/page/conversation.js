// One conversation as the page knows it, and the answers that are being written in it.

import { annotator, events, get, patch, post, recall, remember, ServerError } from "./api.js";
import { Tree } from "./tree.js";
import { say } from "./words.js";

const REMEMBERED = 50; // answers of which it is known how much of the conversation they did not read

/** `id` is null until the first message; `compare` is a draw that waits to be judged. */
export class Conversation {
  constructor(id = null) {
    Object.assign(this, { id, title: "", settings: {}, compare: null, tree: new Tree(), jobs: [], isStale: false });
    this.pending = new Map(); // the number of a message → answers to it that are not stored (yet)
    this.unread = new Map(id === null ? [] : (recall(`unread.${id}`) ?? []));
  }

  /** Load the tree from the server, as it stands there, or with the branch of message `leaf` shown. */
  async load(leaf = null) {
    const stored = await get(`/api/conversations/${encodeURIComponent(this.id)}`, { annotator });
    this.id = stored.id;
    this.title = stored.title;
    this.settings = stored.settings;
    this.compare = stored.compare;
    this.tree.take(stored.messages, leaf ?? stored.path.at(-1) ?? null);
    this.isStale = false;
    return this;
  }

  get isWriting() {
    return this.jobs.length > 0;
  }

  /** Store what the person says after message `parent` (null: as a beginning); returns the stored message. */
  async add(content, parent) {
    if (this.id === null) {
      this.id = (await post("/api/conversations", { annotator })).id;
      if (Object.keys(this.settings).length) await this.set({ settings: this.settings });
    }
    const { message } = await post(`/api/conversations/${this.id}/messages`, { content, parent });
    const created = new Date().toISOString();
    return this.tree.add({ id: message, parent, role: "user", content, version: null, finish: null, created });
  }

  /** Change title, folder, pinned or settings; before the first message settings wait here. */
  async set(notes) {
    if (this.id !== null) await patch(`/api/conversations/${this.id}`, notes);
    Object.assign(this, notes);
  }

  /** Go to the branch of a message, where the conversation stood in it last. */
  async choose(message) {
    const { leaf } = await post(`/api/conversations/${this.id}/branch`, { message: message.id });
    if (this.tree.find(leaf)) this.tree.leaf = leaf;
    else await this.load(leaf); // it went on in another window
  }

  /**
   * Write answers to the message `asked`, all at once: one a wish of {model, own_thread, continue}.
   * `changed(answer)` is called at every piece. Returns the answers when all have ended.
   */
  async write(asked, wishes, changed) {
    const jobs = wishes.map((wish) => ({ wish, name: null, stopped: false, answer: unwritten(asked, wish) }));
    this.pending.set(asked, jobs.map((job) => job.answer));
    this.jobs = jobs;
    changed(null);
    await Promise.all(jobs.map((job) => this.stream(asked, job, changed)));
    this.jobs = [];
    const kept = this.pending.get(asked).filter((answer) => answer.trouble);
    if (kept.length) this.pending.set(asked, kept);
    else this.pending.delete(asked);
    return jobs.map((job) => job.answer);
  }

  async stream(asked, job, changed) {
    const answer = job.answer;
    const to = job.wish.continue ? {} : { to: asked };
    try {
      for await (const event of events(`/api/conversations/${this.id}/answers`, { ...job.wish, ...to })) {
        this.hear(asked, job, event);
        changed(answer);
      }
      if (answer.finish === null && !answer.trouble) answer.trouble = say("The answer broke off.");
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      answer.trouble = error.message;
      answer.isMissing = error.status === 404;
      if (!error.status) this.isStale = true; // what was said until then is stored, under a number that was not told here
    }
    changed(answer);
  }

  hear(asked, job, event) {
    const answer = job.answer;
    if (event.type === "start") {
      job.name = event.answer;
      answer.version = event.version;
      answer.content = event.text;
      answer.leftOut = event.left_out;
      if (job.stopped) this.halt(job);
    } else if (event.type === "text") {
      answer.content += event.text;
    } else if (event.type === "end") {
      Object.assign(answer, { finish: event.finish, tokens: event.tokens, seconds: event.seconds });
      if (event.message === null) return; // stopped before its first word: nothing is stored
      answer.id = event.message;
      this.tree.add(answer);
      this.noteUnread(answer);
    } else {
      answer.trouble = event.message;
    }
  }

  /** Keep, in this browser, how many turns an answer did not read. */
  noteUnread(answer) {
    this.unread.set(answer.id, answer.leftOut);
    const known = [...this.unread].slice(-REMEMBERED);
    remember(`unread.${this.id}`, known.some(([, count]) => count) ? known : null);
  }

  /** How many earlier turns an answer did not read; undefined where that is not known. */
  leftOut(answer) {
    return answer.leftOut ?? this.unread.get(answer.id);
  }

  stop() {
    return Promise.all(this.jobs.map((job) => this.halt(job)));
  }

  async halt(job) {
    job.stopped = true;
    if (job.name) await post(`/api/answers/${job.name}/stop`);
  }
}

function unwritten(asked, wish) {
  return { id: null, parent: asked, role: "assistant", content: "", version: wish.model ?? "", finish: null, good: null };
}

// A conversation's tree: every message follows one, and what follows the same one are alternatives.
//
// A message is {id, parent, role, content, version, finish, created, good} as the server tells it.
// An answer that is still written has neither `id` nor `finish` and is not in the tree yet.

/** The messages of one conversation, oldest first, and where it stands: `leaf`, the end of the branch that is shown. */
export class Tree {
  constructor(messages = [], leaf = null) {
    this.known = new Map();
    this.following = new Map();
    this.take(messages, leaf);
  }

  /** Take what the server knows; messages that were here already stay the same objects, so that what shows them stays too. */
  take(messages, leaf = null) {
    const before = this.known;
    this.known = new Map();
    this.following = new Map();
    for (const message of messages) this.insert(Object.assign(before.get(message.id) ?? {}, message));
    this.leaf = leaf ?? messages.at(-1)?.id ?? null;
  }

  insert(message) {
    this.known.set(message.id, message);
    const siblings = this.children(message.parent);
    siblings.push(message);
    this.following.set(message.parent ?? null, siblings);
  }

  /** Add a new message; the conversation stands there from now on, as the server's does. */
  add(message) {
    if (!this.known.has(message.id)) this.insert(message);
    this.leaf = message.id;
    return message;
  }

  get size() {
    return this.known.size;
  }

  find(id) {
    return this.known.get(id) ?? null;
  }

  /** What follows a message (null: the beginnings), oldest first. */
  children(parent) {
    return this.following.get(parent ?? null) ?? [];
  }

  /** The answers to a message. */
  answers(asked) {
    return this.children(asked).filter((one) => one.role === "assistant");
  }

  /** The alternatives to a message, itself among them: those of its role that follow the same one. */
  siblings(message) {
    return this.children(message.parent).filter((one) => one.role === message.role);
  }

  /** The alternative before (-1) or after (1) a message; null at either end. */
  neighbour(message, change) {
    const siblings = this.siblings(message);
    return siblings[siblings.indexOf(message) + change] ?? null;
  }

  /** From the beginning to `id`; by default to where the conversation stands. */
  path(id = this.leaf) {
    const found = [];
    for (let one = this.find(id); one; one = this.find(one.parent)) found.push(one);
    return found.reverse();
  }

  /** The path in turns: {asked, answer}, either of them null where somebody speaks twice; `said` is a system message. */
  turns() {
    const found = [];
    for (const message of this.path()) {
      const last = found.at(-1);
      if (message.role === "user") found.push({ asked: message, answer: null, said: null });
      else if (message.role === "system") found.push({ asked: null, answer: null, said: message });
      else if (last?.asked && !last.answer) last.answer = message;
      else found.push({ asked: null, answer: message, said: null });
    }
    return found;
  }
}

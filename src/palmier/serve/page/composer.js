// The message box: what is typed grows it, is sent, and survives a sign-in or another language.

import { beforeLeaving } from "./api.js";
import { notice } from "./state.js";
import { say } from "./words.js";

const KEPT = "palmier.typed";
const part = (id) => document.getElementById(id);

/** `send(text)` resolves to whether it was taken; `stop()` ends what is written. */
export class Composer {
  constructor({ send, stop }) {
    this.text = part("text");
    this.send = send;
    part("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.text.addEventListener("input", () => this.grow());
    this.text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.submit();
    });
    part("stop").addEventListener("click", stop);
    beforeLeaving(keep);
    this.restore();
  }

  get value() {
    return this.text.value;
  }

  /** Send what is typed, or `text`; the box is emptied once the server has it. */
  async submit(text = this.text.value) {
    const isTyped = text === this.text.value;
    if ((await this.send(text)) && isTyped && this.text.value === text) this.clear();
  }

  clear() {
    this.text.value = "";
    this.grow();
  }

  /** Put `text` into the box, unless something is typed there. */
  fill(text) {
    if (!this.value.trim()) this.text.value = text;
    this.grow();
  }

  grow() {
    this.text.style.height = "auto";
    this.text.style.height = `${this.text.scrollHeight}px`;
  }

  focus() {
    this.text.focus();
  }

  /** Show the button that stops in the place of the one that sends, or back; the focus goes with it. */
  busy(isBusy) {
    const focused = [part("send"), part("stop")].includes(document.activeElement);
    part("send").hidden = isBusy;
    part("stop").hidden = !isBusy;
    if (focused) (isBusy ? part("stop") : this.text).focus();
  }

  restore() {
    let kept = null;
    try {
      kept = sessionStorage.getItem(KEPT);
      sessionStorage.removeItem(KEPT);
    } catch {
      // storage is off: nothing was kept
    }
    if (!kept) return;
    this.text.value = kept;
    this.grow();
    notice(say("What you had typed is back in the message box."));
  }
}

/** Put away what stands in the box, or in a message that was being changed. */
function keep() {
  const typed = [part("text"), ...document.querySelectorAll("#turns textarea")].map((one) => one.value);
  const text = typed.find((one) => one.trim());
  if (!text) return;
  try {
    sessionStorage.setItem(KEPT, text);
  } catch {
    // storage is off: it is lost
  }
}

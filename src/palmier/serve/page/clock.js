// How long a person has looked at the answers: time in hidden windows does not count.

export class Clock {
  /** `beat` is called every two seconds while the clock runs, and when the page goes away. */
  constructor(beat) {
    Object.assign(this, { before: 0, since: null, running: false });
    document.addEventListener("visibilitychange", () => this.turn());
    addEventListener("pagehide", beat);
    setInterval(() => this.since !== null && beat(), 2000);
  }

  /** Milliseconds so far. */
  get spent() {
    return Math.round(this.before + (this.since === null ? 0 : performance.now() - this.since));
  }

  start(spent) {
    this.before = spent;
    this.since = null;
    this.running = true;
    this.turn();
  }

  stop() {
    this.running = false;
    this.turn();
  }

  turn() {
    this.before = this.spent;
    this.since = this.running && !document.hidden ? performance.now() : null;
  }
}

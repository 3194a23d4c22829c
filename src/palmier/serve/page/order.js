// An order from best to worst, with ties: numbers alone, nothing of the page.

/** `sequence` are answers, best first; `tied[i]` says that place i is level with place i − 1. */
export class Order {
  constructor(sequence, tied = sequence.map(() => false)) {
    this.sequence = [...sequence];
    this.tied = [...tied];
  }

  /** The order that `ranks` (1 = best, by answer) tell; equal ranks stand in the order of `shown`. */
  static fromRanks(ranks, shown) {
    const sequence = shown.toSorted((a, b) => ranks[a] - ranks[b]);
    return new Order(sequence, sequence.map((answer, at) => at > 0 && ranks[answer] === ranks[sequence[at - 1]]));
  }

  get length() {
    return this.sequence.length;
  }

  /** Move the answer at place `from` to place `to`; between two that are tied, it is tied with them. */
  move(from, to) {
    if (to < 0 || to >= this.length || from === to) return false;
    const wasFirst = !this.tied[from];
    const [answer] = this.sequence.splice(from, 1);
    this.tied.splice(from, 1);
    if (wasFirst && from < this.tied.length) this.tied[from] = false;
    const between = to < this.tied.length && this.tied[to];
    this.sequence.splice(to, 0, answer);
    this.tied.splice(to, 0, between);
    this.tied[0] = false;
    return true;
  }

  /** Tie place `at` with the one above, or untie it; the best has nothing above. */
  toggleTie(at) {
    if (at <= 0 || at >= this.length) return false;
    this.tied[at] = !this.tied[at];
    return true;
  }

  /** The rank of the answer at each place: 1, 2, 2, 3 … */
  placeRanks() {
    let rank = 0;
    return this.tied.map((tied) => (tied ? rank : (rank += 1)));
  }

  /** The rank of each answer, as the server takes it. */
  ranks() {
    const ranks = Array(this.length);
    this.placeRanks().forEach((rank, at) => (ranks[this.sequence[at]] = rank));
    return ranks;
  }
}

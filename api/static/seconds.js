/** Sums per second over a sliding window, for rates and charts. Memory is fixed. */

/** The wall clock, in ms: unlike performance.now() it goes on while the machine sleeps. */
export const now = () => Date.now();

const LEAST_SPAN = 30;

export class Seconds {
  /**
   * @param {number} length seconds kept
   * @param {number} width numbers kept for each second
   */
  constructor(length, width) {
    this.length = length;
    this.width = width;
    this.sums = new Float64Array(length * width);
    this.second = 0;
    this.first = 0;
    this.clear();
  }

  clear() {
    this.sums.fill(0);
    this.second = Math.floor(now() / 1000);
    /** The first second that is seen whole: the one that runs now has begun already. */
    this.first = this.second + 1;
  }

  /**
   * Add to one of this second's sums.
   * @param {number} index 0 ≤ index < width
   * @param {number} [amount]
   */
  add(index, amount = 1) {
    this.advance();
    this.sums[(this.second % this.length) * this.width + index] += amount;
  }

  /** Move on to the present, emptying the seconds that have come into the window. */
  advance() {
    const second = Math.floor(now() / 1000);
    if (second < this.second - 1) this.clear(); // the clock was set back
    const steps = Math.min(second - this.second, this.length);
    for (let step = 0; step < steps; step += 1) {
      const slot = (second - step) % this.length;
      this.sums.fill(0, slot * this.width, (slot + 1) * this.width);
    }
    this.second = Math.max(this.second, second);
  }

  /**
   * Give a sum by its age in seconds: 0 is the second that is still running.
   * @param {number} age
   * @param {number} index
   */
  at(age, index) {
    const slot = (((this.second - age) % this.length) + this.length) % this.length;
    return this.sums[slot * this.width + index];
  }

  /** How many whole seconds there are since the start, at most the window's. */
  get whole() {
    return Math.max(0, Math.min(this.second - this.first, this.length - 1));
  }

  /** How many seconds a chart shows: it grows with what there is, from half a minute on. */
  get span() {
    return Math.min(this.length - 1, Math.max(LEAST_SPAN, this.whole));
  }

  /** How many seconds have ended since the start, the one it began in among them. */
  get ended() {
    return Math.min(this.second - this.first + 1, this.length - 1);
  }

  /**
   * Sum up the last seconds that have ended.
   * @param {number} index
   * @param {number} seconds
   */
  total(index, seconds) {
    let total = 0;
    for (let age = Math.min(seconds, this.ended); age >= 1; age -= 1) total += this.at(age, index);
    return total;
  }

  /**
   * Average over the last whole seconds, or over those there are.
   * @param {number} index
   * @param {number} seconds
   */
  rate(index, seconds) {
    const over = Math.min(seconds, this.whole);
    return over ? this.total(index, over) / over : 0;
  }

  /**
   * Give one sum's whole seconds over the span, oldest first; NaN for those before the start.
   * @param {number} index
   */
  series(index) {
    const { span, whole } = this;
    return Array.from({ length: span }, (_, at) => (span - at <= whole ? this.at(span - at, index) : NaN));
  }
}

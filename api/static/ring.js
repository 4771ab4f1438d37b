/** A bounded list of the latest things: pushing past its capacity lets the oldest go. */

/** @template T */
export class Ring {
  /** @param {number} capacity */
  constructor(capacity) {
    this.capacity = capacity;
    /** @type {T[]} */
    this.items = [];
    /** Where the oldest is. */
    this.start = 0;
  }

  clear() {
    this.items = [];
    this.start = 0;
  }

  get length() {
    return this.items.length;
  }

  /** @param {T} item */
  push(item) {
    if (this.items.length < this.capacity) {
      this.items.push(item);
    } else {
      this.items[this.start] = item;
      this.start = (this.start + 1) % this.capacity;
    }
  }

  /**
   * Give an item by its age: 0 is the newest.
   * @param {number} age
   * @returns {T | undefined}
   */
  newest(age) {
    const { length } = this.items;
    return age < length ? this.items[(this.start + length - 1 - age) % length] : undefined;
  }

  /** Copy it, to hold still what is shown. */
  copy() {
    const copy = /** @type {Ring<T>} */ (new Ring(this.capacity));
    copy.items = this.items.slice();
    copy.start = this.start;
    return copy;
  }
}

/**
 * The list of verdicts: every one in the ring can be scrolled to, only those in view are in the DOM.
 *
 * It shows either the live ring (following: the newest on top) or a copy of it that holds still
 * while someone reads.
 *
 * @typedef {import("./verdict.js").Verdict} Verdict
 * @typedef {{number: number, id: string, arrived: number, verdict: Verdict}} Entry
 *   the how-manieth to arrive, its position in the stream, when it arrived by the gateway's clock (ms)
 */

import { element } from "./dom.js";
import { accountsOf, amountOf, decisionBadge, timeOf, whyOf } from "./verdict.js";

const OVERSCAN = 4;
const COLUMNS = [["Time", ""], ["Decision", ""], ["Amount", "money"], ["From → to", ""], ["Score", "score"], ["Reasons", "why"]];

export class VerdictList {
  /**
   * @param {HTMLElement} root
   * @param {import("./ring.js").Ring<Entry>} ring
   * @param {{onOpen: (entry: Entry) => void, onClose: () => void, onLeave: () => void}} on
   *   onLeave: the reader left the top, by scrolling or by keyboard
   */
  constructor(root, ring, on) {
    this.root = root;
    this.ring = ring;
    this.shown = ring;
    this.on = on;
    /** @type {Map<number, HTMLElement>} rows in the DOM by their entry's number */
    this.rows = new Map();
    /** @type {WeakMap<Element, Entry>} what a row shows; the ring may have moved on since */
    this.entries = new WeakMap();
    /** @type {number | undefined} the selected entry's number */
    this.selected = undefined;
    this.body = element("div", { class: "list-body", role: "rowgroup" });
    const head = element("div", { class: "list-row", role: "row", "aria-rowindex": 1 },
      ...COLUMNS.map(([name, kind]) => element("span", { role: "columnheader", class: kind || undefined }, name)));
    root.append(element("div", { class: "list-head", role: "rowgroup" }, head), this.body);
    root.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    root.addEventListener("keydown", (event) => this.#key(event));
    this.body.addEventListener("click", (event) => this.#click(event));
    new ResizeObserver(() => this.paint()).observe(root);
  }

  get holding() {
    return this.shown !== this.ring;
  }

  /** The newest shown entry's number; 0 for an empty list. */
  get newest() {
    return this.shown.newest(0)?.number ?? 0;
  }

  /** Stop taking new entries in; what is shown stays. */
  hold() {
    if (!this.holding) this.shown = this.ring.copy();
  }

  /** Go back to the newest. */
  release() {
    this.shown = this.ring;
    this.root.scrollTop = 0;
    this.paint();
  }

  clear() {
    this.shown = this.ring;
    this.selected = undefined;
    this.root.scrollTop = 0;
    this.paint();
  }

  paint() {
    const { clientHeight, scrollTop } = this.root;
    const height = this.#rowHeight();
    const total = this.shown.length;
    const first = Math.max(0, Math.floor(scrollTop / height) - OVERSCAN);
    const last = Math.min(total, Math.ceil((scrollTop + clientHeight) / height) + OVERSCAN);
    this.body.style.height = `${total * height}px`;
    this.root.setAttribute("aria-rowcount", String(total + 1));

    const needed = new Set();
    for (let age = first; age < last; age += 1) needed.add(this.shown.newest(age)?.number);
    for (const [number, row] of this.rows) {
      if (needed.has(number)) continue;
      row.remove();
      this.rows.delete(number);
    }
    let next = this.body.firstElementChild;
    for (let age = first; age < last; age += 1) {
      const entry = /** @type {Entry} */ (this.shown.newest(age));
      const row = this.rows.get(entry.number) ?? this.#made(entry);
      if (row === next) next = row.nextElementSibling;
      else this.body.insertBefore(row, next); // read aloud in the order in which it is seen
      row.style.transform = `translateY(${age * height}px)`;
      row.setAttribute("aria-rowindex", String(age + 2));
      row.setAttribute("aria-selected", String(entry.number === this.selected));
    }
    const selected = this.selected !== undefined && this.rows.has(this.selected);
    if (selected) this.root.setAttribute("aria-activedescendant", `row-${this.selected}`);
    else this.root.removeAttribute("aria-activedescendant");
  }

  /** Drop the selection, when its details were closed. */
  deselect() {
    this.selected = undefined;
    this.paint();
  }

  /** @param {Entry} entry */
  #made(entry) {
    const { verdict } = entry;
    const cell = (/** @type {string | undefined} */ kind, /** @type {(Node | string)[]} */ ...children) =>
      element("span", { role: "gridcell", class: kind }, ...children);
    const fill = element("span", { class: "fill" });
    fill.style.transform = `scaleX(${Number(verdict.score) / 100})`;
    const row = element("div", { class: "list-row", role: "row", id: `row-${entry.number}` },
      cell(undefined, timeOf(verdict.decided_at)),
      cell(undefined, decisionBadge(verdict.decision)),
      cell("money", ...amountOf(verdict)),
      cell("accounts", ...accountsOf(verdict)),
      element("span", { role: "gridcell", class: "score", "data-decision": verdict.decision },
        element("span", { class: "track", "aria-hidden": "true" }, fill), element("span", { class: "number" }, String(verdict.score))),
      cell("why", ...whyOf(verdict)));
    this.rows.set(entry.number, row);
    this.entries.set(row, entry);
    return row;
  }

  #rowHeight() {
    return Number.parseFloat(getComputedStyle(this.root).getPropertyValue("--row"));
  }

  #scrolled() {
    if (this.root.scrollTop > 0) this.#leave();
    this.paint();
  }

  /** @param {Event} event */
  #click(event) {
    const row = /** @type {HTMLElement} */ (event.target).closest(".list-row");
    const entry = row && this.entries.get(row);
    if (!entry) return;
    this.selected = entry.number;
    this.paint();
    this.on.onOpen(entry);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const page = Math.max(1, Math.floor(this.root.clientHeight / this.#rowHeight()) - 2);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
    if (step !== undefined) {
      event.preventDefault();
      this.#select(step);
    } else if (event.key === "Enter") {
      const entry = this.shown.newest(this.#selectedAge());
      if (entry) this.on.onOpen(entry);
    } else if (event.key === "Escape") {
      this.on.onClose();
    }
  }

  /** @param {number} step rows down */
  #select(step) {
    if (!this.shown.length) return;
    this.#leave();
    const from = this.#selectedAge();
    const to = from < 0 && Number.isFinite(step) ? 0 : from + step;
    const age = Math.min(this.shown.length - 1, Math.max(0, to));
    this.selected = this.shown.newest(age)?.number;
    const height = this.#rowHeight();
    const head = /** @type {HTMLElement} */ (this.root.firstElementChild).offsetHeight;
    const top = age * height;
    const { scrollTop, clientHeight } = this.root;
    if (top < scrollTop) this.root.scrollTop = top;
    else if (top + height + head > scrollTop + clientHeight) this.root.scrollTop = top + height + head - clientHeight;
    this.paint();
  }

  #leave() {
    this.hold();
    this.on.onLeave();
  }

  /** The selected entry's place from the top, −1 where it is not in the list. */
  #selectedAge() {
    const newest = this.shown.newest(0)?.number;
    if (this.selected === undefined || newest === undefined) return -1;
    const age = newest - this.selected; // numbers are without holes
    return age >= 0 && age < this.shown.length ? age : -1;
  }
}

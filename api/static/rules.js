/** Which rules speak most, over a sliding window, for a bounded number of rules. */

import { arrange, element, setText } from "./dom.js";
import { count } from "./format.js";
import { Seconds } from "./seconds.js";

const MOST_RULES = 64;
const SHOWN = 7;
const OTHERS = "other rules";

export class RuleCounts {
  /** @param {number} seconds the window */
  constructor(seconds) {
    this.seconds = new Seconds(seconds, MOST_RULES);
    /** @type {Map<string, {index: number, shadow: boolean}>} */
    this.rules = new Map();
    /** @type {Map<string, HTMLLIElement>} what shows a rule; the same for as long as it is shown */
    this.items = new Map();
  }

  /** @param {import("./verdict.js").Verdict} verdict */
  add(verdict) {
    for (const { rule, shadow } of verdict.reasons) {
      const name = this.rules.has(rule) || this.rules.size < MOST_RULES - 1 ? rule : OTHERS;
      let known = this.rules.get(name);
      if (!known) this.rules.set(name, (known = { index: this.rules.size, shadow: !!shadow }));
      this.seconds.add(known.index);
    }
  }

  /**
   * Show the rules that spoke most, as list items with bars; give how many.
   * @param {HTMLElement} list
   */
  show(list) {
    this.seconds.advance();
    const totals = [...this.rules]
      .map(([rule, { index, shadow }]) => ({ rule, shadow, total: this.seconds.total(index, this.seconds.length - 1) }))
      .filter(({ total }) => total)
      .sort((a, b) => b.total - a.total)
      .slice(0, SHOWN);
    const before = this.items;
    this.items = new Map(totals.map(({ rule, shadow }) => [rule, before.get(rule) ?? item(rule, shadow)]));
    for (const { rule, shadow, total } of totals) {
      const shown = /** @type {HTMLLIElement} */ (this.items.get(rule));
      const [, figure, track] = shown.children;
      setText(figure, shadow ? `${count(total)}, on trial` : count(total));
      /** @type {HTMLElement} */ (track.firstElementChild).style.transform = `scaleX(${total / totals[0].total})`;
    }
    arrange(list, [...this.items.values()]);
    return totals.length;
  }
}

/**
 * @param {string} rule
 * @param {boolean} shadow
 */
function item(rule, shadow) {
  const name = rule === OTHERS ? element("span", {}, rule)
    : element("a", { href: `/stream/all?rule=${encodeURIComponent(rule)}`, title: rule }, rule);
  return element("li", { "data-shadow": shadow ? "" : undefined }, name,
    element("span", { class: "count" }),
    element("span", { class: "track", "aria-hidden": "true" }, element("span", { class: "fill" })));
}

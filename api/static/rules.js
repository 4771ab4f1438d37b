/** Which rules speak most, over a sliding window, for a bounded number of rules. */

import { element } from "./dom.js";
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

  /** The rules that spoke most, as list items with bars. */
  bars() {
    this.seconds.advance();
    const totals = [...this.rules]
      .map(([rule, { index, shadow }]) => ({ rule, shadow, total: this.seconds.total(index, this.seconds.length - 1) }))
      .filter(({ total }) => total)
      .sort((a, b) => b.total - a.total)
      .slice(0, SHOWN);
    return totals.map(({ rule, shadow, total }) => {
      const fill = element("span", { class: "fill" });
      fill.style.transform = `scaleX(${total / totals[0].total})`;
      const name = rule === OTHERS ? element("span", {}, rule)
        : element("a", { href: `/stream/all?rule=${encodeURIComponent(rule)}`, title: rule }, rule);
      return element("li", { "data-shadow": shadow ? "" : undefined }, name,
        element("span", { class: "count" }, shadow ? `${count(total)}, on trial` : count(total)),
        element("span", { class: "track", "aria-hidden": "true" }, fill));
    });
  }
}

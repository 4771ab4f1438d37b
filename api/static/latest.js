/** The latest frauds: a calm list, renewed once a second, that says how many it leaves out. */

import { byId, element, setText } from "./dom.js";
import { count } from "./format.js";
import { Painter } from "./paint.js";
import { Ring } from "./ring.js";
import { accountsOf, amountOf, timeOf, whyOf } from "./verdict.js";

const SHOWN = 8;
const RENEWALS_PER_SECOND = 1;

export class LatestFrauds {
  constructor() {
    this.passed = 0; // since the last renewal
    /** @type {Ring<import("./verdict.js").Verdict>} */
    this.ring = new Ring(SHOWN);
    this.root = byId("latest");
    this.painter = new Painter(() => this.#paint(), RENEWALS_PER_SECOND);
    this.root.addEventListener("pointerleave", () => this.painter.request());
  }

  /** @param {import("./verdict.js").Verdict} verdict */
  add(verdict) {
    this.ring.push(verdict);
    this.passed += 1;
    this.painter.request();
  }

  #paint() {
    if (this.root.matches(":hover")) return; // someone reads
    byId("latest-empty").hidden = this.ring.length > 0;
    const rows = Array.from({ length: this.ring.length }, (_, age) => this.ring.newest(age));
    this.root.replaceChildren(...rows.map((verdict) => row(/** @type {import("./verdict.js").Verdict} */ (verdict))));
    const every = Math.round(this.passed / SHOWN);
    this.passed = 0;
    setText(byId("latest-sampling"), every > 1 ? `Showing 1 of ${count(every)}` : "");
  }
}

/** @param {import("./verdict.js").Verdict} verdict */
const row = (verdict) =>
  element("div", { class: "latest-row", role: "listitem" },
    timeOf(verdict.decided_at),
    element("span", { class: "money" }, ...amountOf(verdict)),
    element("span", { class: "accounts" }, ...accountsOf(verdict)),
    element("span", { class: "why" }, ...whyOf(verdict)));

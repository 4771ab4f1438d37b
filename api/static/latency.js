/** How long verdicts take: from Kafka's record of the transaction to the decision, and to here. */

import { offset } from "./clock.js";
import { Percentiles } from "./percentiles.js";
import { now } from "./seconds.js";

export class Latency {
  /** @param {number} seconds the window */
  constructor(seconds) {
    this.toPage = new Percentiles(seconds);
    this.toDecision = new Percentiles(seconds);
  }

  /**
   * @param {import("./verdict.js").Verdict} verdict
   * @param {number} liveSince by the clock here; what was decided before is history sent again
   */
  add(verdict, liveSince) {
    const received = Date.parse(verdict.received_at);
    const decided = Date.parse(verdict.decided_at);
    if (!(decided >= liveSince + offset())) return;
    this.toPage.add(now() + offset() - received);
    this.toDecision.add(decided - received);
  }
}

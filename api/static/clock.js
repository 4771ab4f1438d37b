/**
 * The gateway's clock as seen from here, so that a latency across two machines means something.
 *
 * Each answer that says the gateway's time gives an offset that is off by at most half the time the
 * answer took (as in NTP, RFC 5905); the quickest of the latest answers is believed.
 */

import { duration } from "./format.js";
import { now } from "./seconds.js";

const KEPT = 20;

/** @type {{offset: number, error: number}[]} in ms */
const samples = [];

/**
 * @param {number} gatewayTime what the gateway said, in ms since the Unix epoch
 * @param {number} asked when it was asked, by the clock here
 */
export function observe(gatewayTime, asked) {
  const answered = now();
  if (Number.isNaN(gatewayTime)) return;
  samples.push({ offset: gatewayTime - (asked + answered) / 2, error: (answered - asked) / 2 + 1 });
  if (samples.length > KEPT) samples.shift();
}

const best = () => samples.reduce((a, b) => (b.error <= a.error ? b : a), { offset: 0, error: Infinity });

/** What to add to the clock here to get the gateway's, in ms; 0 where they agree. */
export function offset() {
  const { offset: apart, error } = best();
  return Math.abs(apart) > error ? apart : 0;
}

/** How far the clocks are apart in words, or nothing where they agree. */
export function skewNote() {
  const apart = offset();
  if (!apart) return "";
  const side = apart < 0 ? "ahead of" : "behind";
  return `This clock is ${duration(Math.abs(apart))} ${side} the gateway's; corrected to ± ${duration(best().error)}.`;
}

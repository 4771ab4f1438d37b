/**
 * The gateway's clock as seen from here, so that a latency across two machines means something.
 *
 * An HTTP Date header has whole seconds, and servers renew it once a second: it says that the
 * gateway's time was within [Date, Date + 2 s) at some moment between request and answer. Every
 * answer narrows the possible offsets; while zero is among them, the clocks count as equal.
 */

import { now } from "./seconds.js";

const UNCERTAINTY_MS = 2000;

let least = -Infinity;
let most = Infinity;

/**
 * Take an answer's Date header into account.
 * @param {string | null} date
 * @param {number} asked when the request left, in ms
 */
export function observe(date, asked) {
  const shown = date ? Date.parse(date) : NaN;
  if (Number.isNaN(shown)) return;
  const low = shown - now();
  const high = shown + UNCERTAINTY_MS - asked;
  // A clock that was set anew leaves no offset possible: begin again.
  if (low > most || high < least) [least, most] = [low, high];
  else [least, most] = [Math.max(least, low), Math.min(most, high)];
}

/** What to add to this clock to get the gateway's, in ms. */
export function offset() {
  if (least <= 0 && most >= 0) return 0;
  return Number.isFinite(least) && Number.isFinite(most) ? (least + most) / 2 : 0;
}

/** How far the clocks are apart in words, or nothing where they agree. */
export function skewNote() {
  const apart = offset();
  if (!apart) return "";
  return `clocks ${(Math.abs(apart) / 1000).toFixed(1)} s apart, corrected to ± ${((most - least) / 2000).toFixed(1)} s`;
}

/** The gateway's time now, in ms since the Unix epoch. */
export const gatewayNow = () => now() + offset();

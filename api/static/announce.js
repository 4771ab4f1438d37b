/** Telling screen readers what changed: politely, and never more often than they can speak. */

import { byId } from "./dom.js";

const LEAST_GAP_MS = 4000;
let last = -Infinity;
/** @type {string | undefined} */
let waiting;

/** Say something soon; of several within the gap only the latest is said. @param {string} text */
export function announce(text) {
  const wait = last + LEAST_GAP_MS - performance.now();
  if (waiting === undefined) setTimeout(speak, Math.max(0, wait));
  waiting = text;
}

function speak() {
  last = performance.now();
  byId("announcer").textContent = waiting ?? "";
  waiting = undefined;
}

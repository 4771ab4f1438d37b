/**
 * How the gateway is, asked every few seconds while someone looks.
 *
 * @typedef {{partitions?: unknown, lag?: unknown, clients?: number}} StreamStatus
 * @typedef {object} Health
 * @property {boolean} reachable
 * @property {boolean} ready
 * @property {boolean} [kafka_connected]
 * @property {Record<string, StreamStatus>} [streams]
 * @property {string} [started_at]
 * @property {string} [version]
 * @property {string} [now]
 * @property {number} [heartbeat_seconds] how often an open stream tells that it is there
 * @property {{id: string, name: string, scopes: string[]} | null} [principal]
 */

import { observe } from "./clock.js";
import { now } from "./seconds.js";
import { showPrincipal, signIn } from "./session.js";

const EVERY_MS = 2500;
const TIMEOUT_MS = 5000;

/** @type {Health} */
const NO_ANSWER = { reachable: false, ready: false };

/** @param {(health: Health) => void} onHealth */
export function watchHealth(onHealth) {
  let running = false;
  let address = "/status.json";
  const ask = async () => {
    if (running || document.hidden) return;
    running = true;
    const asked = now();
    try {
      const answer = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
      if (answer.status === 404) {
        address = "/readyz"; // a gateway that has no status to give
      } else if (answer.status === 401) {
        signIn();
      } else if (answer.ok || answer.status === 503) {
        /** @type {Health} */
        const health = { ready: answer.ok, ...(await answer.json()), reachable: true };
        observe(Date.parse(health.now ?? ""), asked);
        showPrincipal(health.principal);
        onHealth(health);
      } else if (answer.status !== 429) { // which says nothing of how the gateway is
        onHealth(NO_ANSWER);
      }
    } catch {
      onHealth(NO_ANSWER);
    }
    running = false;
  };
  setInterval(ask, EVERY_MS);
  document.addEventListener("visibilitychange", ask);
  ask();
}

/**
 * Add up how far the streams are behind Kafka, and who listens.
 * @param {Record<string, StreamStatus>} streams
 * @returns {{lag: number | undefined, clients: number}} lag: undefined where it is not told
 */
export function following(streams) {
  // The stream of all verdicts reads the topics of the two others.
  const readers = streams.all ? [streams.all] : Object.values(streams);
  const lags = readers.map(({ lag }) => totalOf(lag)).filter((lag) => lag !== undefined);
  return {
    lag: lags.length ? lags.reduce((sum, lag) => sum + lag, 0) : undefined,
    clients: Object.values(streams).reduce((sum, { clients }) => sum + (clients ?? 0), 0),
  };
}

/**
 * A lag may come as one number, or by partition.
 * @param {unknown} lag
 * @returns {number | undefined}
 */
function totalOf(lag) {
  if (typeof lag === "number") return lag;
  if (lag === null || typeof lag !== "object") return undefined;
  const parts = Object.values(lag).filter((part) => typeof part === "number");
  return parts.length ? parts.reduce((sum, part) => sum + part, 0) : undefined;
}

/**
 * One stream, kept open. A lost connection is taken up again after the last event that came, and
 * what is known about the time in between is told: nothing missing, or a gap.
 *
 * EventSource reconnects by itself after a network error, but gives up on an HTTP error: then the
 * reason is asked for, and this goes on trying with the position in the address.
 *
 * @typedef {object} ConnectionState
 * @property {"connecting" | "live" | "lost" | "refused" | "closed"} name
 * @property {number} [lostAt] ms since the Unix epoch
 * @property {number} [lostFor] ms, once it is live again
 * @property {Problem} [problem]
 *
 * @typedef {{title: string, detail?: string, status: number, errors?: {pointer: string, detail: string}[]}} Problem
 *
 * @typedef {object} Listener
 * @property {(verdict: import("./verdict.js").Verdict, id: string) => void} verdict
 * @property {(state: ConnectionState) => void} state
 * @property {(gap: unknown) => void} gap a gap's data, as told by the gateway
 */

import { offset } from "./clock.js";
import { now } from "./seconds.js";
import { signIn } from "./session.js";

const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 15_000;

export class Connection {
  /**
   * @param {string} address the stream's, with its filters
   * @param {Listener} listener
   */
  constructor(address, listener) {
    this.address = address;
    this.listener = listener;
    this.lastId = "";
    this.unreadable = 0;
    /** When it was first open, by the clock here; 0 before. */
    this.openedAt = 0;
    /** When it was last opened: what was decided before then came late because of that. */
    this.liveSince = Infinity;
    this.retryMs = FIRST_RETRY_MS;
    /** @type {ConnectionState} */
    this.state = { name: "connecting" };
    this.retryTimer = 0;
    this.source = this.#open();
  }

  /** End it for good. */
  close() {
    clearTimeout(this.retryTimer);
    this.source.close();
    this.#become({ name: "closed" });
  }

  #open() {
    const source = new EventSource(this.#resumeAddress());
    source.onopen = () => this.#opened();
    source.onmessage = (event) => this.#arrived(event);
    source.onerror = () => this.#failed();
    source.addEventListener("gap", (event) => this.#missing(event));
    return source;
  }

  #resumeAddress() {
    const url = new URL(this.address, location.href);
    if (this.lastId) {
      url.searchParams.delete("since");
      url.searchParams.set("last_event_id", this.lastId);
    } else if (this.openedAt && !url.searchParams.has("since")) {
      // Nothing came before it was lost: what was decided since it opened is what may be missing.
      url.searchParams.set("since", String(Math.floor(this.openedAt + offset())));
    }
    return url.href;
  }

  #opened() {
    this.retryMs = FIRST_RETRY_MS;
    this.liveSince = now();
    this.openedAt ||= this.liveSince;
    const { lostAt } = this.state;
    this.#become({ name: "live", ...(lostAt && { lostAt, lostFor: now() - lostAt }) });
  }

  /** @param {MessageEvent<string>} event */
  #arrived(event) {
    this.lastId = event.lastEventId;
    let verdict;
    try {
      verdict = JSON.parse(event.data);
    } catch {
      this.unreadable += 1; // shown with the count of what came
      return;
    }
    this.listener.verdict(verdict, event.lastEventId);
  }

  /** @param {MessageEvent<string>} event */
  #missing(event) {
    if (event.lastEventId) this.lastId = event.lastEventId;
    let gap;
    try {
      gap = JSON.parse(event.data);
    } catch {
      gap = event.data;
    }
    this.listener.gap(gap);
  }

  #failed() {
    const lostAt = this.state.lostAt && this.state.name !== "live" ? this.state.lostAt : now();
    if (this.source.readyState !== EventSource.CLOSED) {
      this.#become({ name: this.openedAt ? "lost" : "connecting", lostAt });
      return;
    }
    this.#become({ ...this.state, name: this.openedAt ? "lost" : "connecting", lostAt });
    this.#explain(lostAt);
    this.retryTimer = setTimeout(() => (this.source = this.#open()), this.retryMs);
    this.retryMs = Math.min(2 * this.retryMs, LONGEST_RETRY_MS);
  }

  /** Ask why it was refused: an EventSource can't say. @param {number} lostAt */
  async #explain(lostAt) {
    const { source } = this;
    const stop = new AbortController();
    try {
      const answer = await fetch(this.#resumeAddress(), {
        headers: { Accept: "text/event-stream" }, cache: "no-store", signal: stop.signal,
      });
      if (answer.ok || source !== this.source) return;
      if (answer.status === 401) return void signIn(); // what was signed in with has ended
      const problem = { status: answer.status, title: answer.statusText, ...(await answer.json()) };
      // The same request would be refused again: only a changed filter helps.
      const final = answer.status >= 400 && answer.status < 500 && answer.status !== 429;
      if (final) clearTimeout(this.retryTimer);
      this.#become({ name: final ? "refused" : "lost", lostAt, problem });
    } catch {
      return; // unreachable: the state says so already
    } finally {
      stop.abort();
    }
  }

  /** @param {ConnectionState} state */
  #become(state) {
    if (this.state.name === "closed") return;
    this.state = state;
    this.listener.state(state);
  }
}

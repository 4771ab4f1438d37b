/**
 * One stream, kept open. A lost connection is taken up again where the stream stood, and what is
 * known about the time in between is told: nothing missing, or a gap.
 *
 * It is read by fetch. An EventSource would not tell that a connection has died (heartbeats stay
 * away, and nothing else happens), nor how far a stream has come whose filter let nothing through;
 * and it gives up on an HTTP error, without a reason.
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
import { Events } from "./events.js";
import { now } from "./seconds.js";
import { signIn } from "./session.js";

const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 15_000;
const HEARTBEAT_S = 15;
/** So many heartbeats that stay away, and the connection is dead. */
const MISSED_BEATS = 3;
const LISTEN_EVERY_MS = 500;
const END = { done: true, value: undefined };

export class Connection {
  /**
   * @param {string} address the stream's, with its filters
   * @param {Listener} listener
   */
  constructor(address, listener) {
    this.address = address;
    this.listener = listener;
    this.unreadable = 0;
    /** When it was first open, by the clock here; 0 before. */
    this.openedAt = 0;
    /** When it was last opened: what was decided before then came late because of that. */
    this.liveSince = Infinity;
    /** When anything came last, were it a heartbeat. */
    this.heardAt = now();
    /** How long nothing may come. */
    this.patienceMs = 1000 * HEARTBEAT_S * MISSED_BEATS;
    /** How often it was tried in vain since it was last open. */
    this.tries = 0;
    /** @type {ConnectionState} */
    this.state = { name: "connecting" };
    this.events = new Events((type, data) => this.#arrived(type, data));
    this.retryTimer = 0;
    this.listening = setInterval(() => this.#listen(), LISTEN_EVERY_MS);
    this.attempt = new AbortController();
    this.#open();
  }

  /** End it for good. */
  close() {
    clearTimeout(this.retryTimer);
    clearInterval(this.listening);
    this.attempt.abort();
    this.#become({ name: "closed" });
  }

  /** Expect a heartbeat so often. @param {number | undefined} seconds where it is known */
  expectHeartbeats(seconds) {
    if (seconds) this.patienceMs = 1000 * seconds * MISSED_BEATS;
  }

  async #open() {
    const attempt = (this.attempt = new AbortController());
    const { lastId } = this.events;
    this.heardAt = now();
    const answer = await fetch(this.#resumeAddress(), {
      headers: { Accept: "text/event-stream", ...(lastId && { "Last-Event-ID": lastId }) },
      cache: "no-store",
      signal: attempt.signal,
    }).catch(() => undefined); // it can't be reached
    if (attempt.signal.aborted) return;
    let problem;
    if (answer?.body && isStream(answer)) await this.#read(answer.body, attempt);
    else if (answer) problem = await refusal(answer);
    if (!attempt.signal.aborted) this.#failed(problem);
  }

  #resumeAddress() {
    const url = new URL(this.address, location.href);
    if (!this.events.lastId && this.openedAt && !url.searchParams.has("since")) {
      // It was lost before its position was told: what was decided since it opened may be missing.
      url.searchParams.set("since", String(Math.floor(this.openedAt + offset())));
    }
    return url.href;
  }

  /**
   * @param {ReadableStream<Uint8Array<ArrayBuffer>>} body
   * @param {AbortController} attempt
   */
  async #read(body, attempt) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    this.events.restart();
    this.#opened();
    for (;;) {
      const { done, value } = await reader.read().catch(() => END); // it broke off
      if (done || attempt.signal.aborted) return;
      this.heardAt = now();
      this.events.feed(value);
    }
  }

  #opened() {
    this.tries = 0;
    this.heardAt = this.liveSince = now();
    this.openedAt ||= this.liveSince;
    const { lostAt } = this.state;
    this.#become({ name: "live", ...(lostAt && { lostAt, lostFor: now() - lostAt }) });
  }

  /**
   * @param {string} type
   * @param {string} data
   */
  #arrived(type, data) {
    try {
      if (type === "gap") this.listener.gap(read(data) ?? data);
      else if (type === "message") this.#verdict(read(data));
    } catch (error) {
      reportError(error); // of the page, not of the stream: what comes next is shown all the same
    }
  }

  /** @param {any} told */
  #verdict(told) {
    if (Array.isArray(told?.reasons)) this.listener.verdict(told, this.events.lastId);
    else this.unreadable += 1; // no verdict; shown with the count of what came
  }

  /** Open it anew if nothing has come for too long: nobody tells that the other end is gone. */
  #listen() {
    this.heardAt = Math.min(this.heardAt, now()); // the clock may have been set back
    const silent = now() - this.heardAt > this.patienceMs;
    if (!silent || this.retryTimer || this.state.name === "refused") return;
    const { heardAt } = this;
    this.attempt.abort();
    this.#lost(heardAt);
    this.#open();
  }

  /** @param {Problem} [problem] */
  #failed(problem) {
    if (problem?.status === 401) return void signIn(); // what was signed in with has ended
    this.#lost(now(), problem);
    if (this.state.name === "refused") return;
    const wait = (this.events.retryMs ?? FIRST_RETRY_MS) * 2 ** this.tries;
    this.tries += 1;
    this.retryTimer = setTimeout(() => {
      this.retryTimer = 0;
      this.#open();
    }, Math.min(wait, LONGEST_RETRY_MS));
  }

  /**
   * @param {number} at when, unless it was lost before
   * @param {Problem} [problem]
   */
  #lost(at, problem) {
    const lostAt = this.state.lostAt && this.state.name !== "live" ? this.state.lostAt : at;
    // The same request would be refused again: only a changed filter helps.
    const final = problem && problem.status >= 400 && problem.status < 500 && problem.status !== 429;
    const name = final ? "refused" : this.openedAt ? "lost" : "connecting";
    this.#become({ name, lostAt, ...(problem && { problem }) });
  }

  /** @param {ConnectionState} state */
  #become(state) {
    if (this.state.name === "closed") return;
    this.state = state;
    this.listener.state(state);
  }
}

/** @param {string} data JSON; of anything else nothing is given */
function read(data) {
  try {
    return JSON.parse(data);
  } catch {
    return undefined;
  }
}

/** @param {Response} answer */
const isStream = (answer) => answer.ok && !!answer.headers.get("Content-Type")?.startsWith("text/event-stream");

/** Give the reason of an answer that is no stream. @param {Response} answer @returns {Promise<Problem>} */
async function refusal(answer) {
  const plain = { status: answer.status, title: answer.ok ? "Something else answers" : answer.statusText };
  try {
    return { ...plain, ...(await answer.json()) };
  } catch {
    return plain; // from something in between that knows no problems
  }
}

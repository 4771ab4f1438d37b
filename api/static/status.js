/** The connection pill and the banner: what is connected, what was lost, and what came of it. */

import { announce } from "./announce.js";
import { byId, setText } from "./dom.js";
import { duration, toTheSecond } from "./format.js";
import { now } from "./seconds.js";

const CALM_AFTER_MS = 8000;
/** A gap is told first; once a verdict came, or nothing did for this long, there was none. */
const VERDICT_ON_GAP_MS = 2000;

/** @typedef {import("./connection.js").ConnectionState} ConnectionState */

export class StatusBar {
  constructor() {
    this.pill = byId("connection");
    this.text = byId("connection-text");
    this.banner = byId("banner");
    /** @type {ConnectionState} */
    this.connection = { name: "connecting" };
    /** @type {import("./health.js").Health | undefined} */
    this.health = undefined;
    this.gapTold = false;
    this.settling = false;
    this.timer = 0;
    setInterval(() => this.#tick(), 1000);
  }

  /** @param {ConnectionState} state */
  connectionChanged(state) {
    this.connection = state;
    clearTimeout(this.timer);
    this.settling = state.name === "live" && state.lostFor !== undefined;
    if (this.settling) {
      this.gapTold = false;
      this.timer = setTimeout(() => this.settled(), VERDICT_ON_GAP_MS);
    }
    this.#show();
    announce(this.text.textContent ?? "");
  }

  /** Call when a verdict came: had something been missing, it would have been told by now. */
  settled() {
    if (!this.settling) return;
    this.settling = false;
    clearTimeout(this.timer);
    if (this.gapTold) return;
    const { lostAt = now(), lostFor = 0 } = this.connection;
    this.#say("good", `Resumed after ${duration(lostFor)}, lost at ${toTheSecond(lostAt)}. Nothing is missing.`);
    this.timer = setTimeout(() => this.#hide(), CALM_AFTER_MS);
  }

  /** @param {unknown} gap */
  gap(gap) {
    this.gapTold = true;
    this.settling = false;
    clearTimeout(this.timer);
    this.#say("bad", `Some verdicts are missing: Kafka no longer has them. ${gapText(gap)}`);
  }

  /** @param {import("./health.js").Health} health */
  healthChanged(health) {
    const before = this.text.textContent;
    const wasAway = this.#kafkaAway();
    this.health = health;
    if (wasAway && !this.#kafkaAway() && this.connection.name === "live") {
      this.#say("good", "Kafka is back. The stream goes on where it stood.");
      this.timer = setTimeout(() => this.#hide(), CALM_AFTER_MS);
    }
    this.#show();
    if (before !== this.text.textContent) announce(this.text.textContent ?? "");
  }

  #kafkaAway() {
    return this.health !== undefined && this.health.reachable && !this.health.ready;
  }

  #show() {
    const { name, lostAt, problem } = this.connection;
    const waiting = name === "live" && this.#kafkaAway();
    this.pill.dataset.state = waiting ? "waiting" : name;
    setText(this.text, {
      connecting: lostAt ? "Can't connect" : "Connecting",
      live: waiting ? "Waiting for Kafka" : "Live",
      lost: "Reconnecting",
      refused: "Refused",
      closed: "Closed",
    }[name]);
    if (name === "refused" && problem) this.#say("bad", `The stream refused: ${problem.detail ?? problem.title}`);
    else if (waiting) this.#say("warn", "The gateway can't reach Kafka. The stream is open and goes on once it can.");
    else if (name === "live") {
      if (this.settling) this.#say("warn", "Connected again. Checking that nothing is missing…");
      else if (this.banner.dataset.tone === "warn" || name === "live" && this.banner.dataset.tone === "refused") this.#hide();
    }
    this.#tick();
  }

  /** Keep the time since a loss running. */
  #tick() {
    const { name, lostAt, problem } = this.connection;
    if (!lostAt || (name !== "lost" && name !== "connecting")) return;
    const why = problem ? ` ${problem.detail ?? problem.title}.` : "";
    const ago = duration(Math.max(0, now() - lostAt));
    this.#say("warn", name === "lost"
      ? `Connection lost at ${toTheSecond(lostAt)}.${why} Reconnecting for ${ago}; what was missed will follow.`
      : `The gateway does not answer.${why} Trying for ${ago}.`);
  }

  /**
   * @param {"good" | "warn" | "bad"} tone
   * @param {string} text
   */
  #say(tone, text) {
    this.banner.dataset.tone = tone;
    this.banner.hidden = false;
    setText(this.banner, text);
  }

  #hide() {
    this.banner.hidden = true;
    this.banner.dataset.tone = "";
  }
}

/** Put a gap into words, whatever its members are. @param {unknown} gap */
export function gapText(gap) {
  if (typeof gap !== "object" || gap === null) return String(gap ?? "");
  const { detail } = /** @type {{detail?: unknown}} */ (gap);
  return typeof detail === "string" ? detail : JSON.stringify(gap);
}

/** The connection pill and the banner: what is connected, what was lost, and what came of it. */

import { announce } from "./announce.js";
import { byId, setText } from "./dom.js";
import { calmMoment, count, duration } from "./format.js";
import { now } from "./seconds.js";

const CALM_AFTER_MS = 8000;
/** A gap is told first; once a verdict came, or nothing did for this long, there was none. */
const VERDICT_ON_GAP_MS = 2000;
/** What was decided so long ago is history; while it comes, the page does not show what is. */
const HISTORY_MS = 30_000;
/** So long without any, and there is no more of it. */
const HISTORY_OVER_MS = 3000;
/** A gateway that has just started is not ready yet: no reason to alarm anyone. */
const GRACE_MS = 5000;

const NAMES = { connecting: "Connecting", live: "Live", lost: "Reconnecting", refused: "Refused", closed: "Closed" };

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
    /** Whether it is not known yet if something is missing since the connection was lost. */
    this.settling = false;
    /** Whether the banner tells of something past, and so outlives its cause. */
    this.lasting = false;
    /** What is missing from what is shown, until someone has read it; told again after other news. */
    this.missing = "";
    this.gaps = 0;
    this.liveAt = 0;
    /** When a verdict came last that is history. */
    this.historyAt = -Infinity;
    this.timer = 0;
    setInterval(() => this.#tick(), 1000);
    byId("banner-close").addEventListener("click", () => {
      this.#forget();
      this.#hide();
    });
  }

  /** @param {ConnectionState} state */
  connectionChanged(state) {
    this.connection = state;
    clearTimeout(this.timer);
    this.settling = state.name === "live" && state.lostFor !== undefined;
    if (this.settling) this.timer = setTimeout(() => this.settled(), VERDICT_ON_GAP_MS);
    if (state.name === "live") this.liveAt = now();
    else this.lasting = false;
    if (state.name === "closed") this.#forget(); // another stream is opened, and begins anew
    this.#show();
  }

  /** Call when a verdict came. @param {number} age how long ago it was decided, in ms */
  passed(age) {
    this.historyAt = age > HISTORY_MS ? now() : -Infinity;
    this.settled();
  }

  /** Nothing is missing: it would have been told by now. */
  settled() {
    if (!this.settling) return;
    this.settling = false;
    clearTimeout(this.timer);
    if (this.missing) return this.#hide();
    const { lostAt = now(), lostFor = 0 } = this.connection;
    this.#past("good", `Lost at ${calmMoment(lostAt)}, resumed after ${duration(lostFor)}. Nothing is missing.`);
    this.timer = setTimeout(() => this.#hide(), CALM_AFTER_MS);
  }

  /** @param {unknown} gap what an event named "gap" holds */
  gap(gap) {
    this.settling = false;
    clearTimeout(this.timer);
    const before = this.gaps ? ` ${count(this.gaps)} more such before.` : "";
    this.gaps += 1;
    this.missing = `Verdicts are missing here, as Kafka no longer has them: ${gapText(gap)}.${before}`;
    this.#past("bad", this.missing);
  }

  /** @param {import("./health.js").Health} health */
  healthChanged(health) {
    const wasAway = this.#away();
    const back = this.health?.reachable ? "Kafka is back" : "The gateway answers again";
    this.health = health;
    if (wasAway && !this.#away() && this.connection.name === "live") {
      clearTimeout(this.timer);
      if (this.missing) this.#hide();
      else this.#past("good", `${back}. The stream goes on where it stood.`);
      this.timer = setTimeout(() => this.#hide(), CALM_AFTER_MS);
    }
    this.#show();
  }

  /** Whether the stream is open, but nothing can come through it. */
  #away() {
    return this.health !== undefined && !this.health.ready && now() - this.liveAt > GRACE_MS;
  }

  /** Show in a word or two what is; give whether the stream is open and nothing can come. */
  #showPill() {
    const { name } = this.connection;
    const waiting = name === "live" && this.#away();
    const history = name === "live" && now() - this.historyAt < HISTORY_OVER_MS;
    const text = waiting ? (this.health?.reachable ? "Waiting for Kafka" : "No answer") : history ? "Catching up" : NAMES[name];
    this.pill.dataset.state = waiting || history ? "waiting" : name;
    if (text !== this.text.textContent) announce(text);
    setText(this.text, text);
    return waiting;
  }

  #show() {
    const { name, lostAt, problem } = this.connection;
    const waiting = this.#showPill();
    if (name === "refused" && problem) {
      this.#say("bad", `The stream refused: ${problem.detail ?? problem.title}`);
    } else if (waiting) {
      this.lasting = false;
      this.#say("warn", this.health?.reachable
        ? "The gateway can't reach Kafka. The stream stays open and goes on once it can."
        : "The gateway does not answer. The stream is still open, but may be silent.");
    } else if (this.settling) {
      this.#say("warn", "Connected again. Checking that nothing is missing…");
    } else if (!lostAt && !this.lasting || name === "live" && !this.lasting) {
      this.#hide();
    }
    this.#tick();
  }

  /** Keep what goes by the clock up to date: the time since a loss, whether history comes. */
  #tick() {
    this.#showPill();
    const { name, lostAt, problem } = this.connection;
    if (!lostAt || (name !== "lost" && name !== "connecting")) return;
    const why = problem ? ` ${problem.detail ?? problem.title}.` : "";
    const seconds = Math.floor((now() - lostAt) / 1000);
    const since = seconds > 0 ? ` for ${duration(seconds * 1000)}` : "";
    this.#say("warn", name === "lost"
      ? `Connection lost at ${calmMoment(lostAt)}.${why} Reconnecting${since}; what is missed meanwhile follows.`
      : `The gateway does not answer.${why} Trying again${since}.`);
  }

  /**
   * @param {"good" | "bad"} tone
   * @param {string} text
   */
  #past(tone, text) {
    this.lasting = true;
    this.#say(tone, text);
    announce(text);
  }

  /**
   * @param {"good" | "warn" | "bad"} tone
   * @param {string} text
   */
  #say(tone, text) {
    this.banner.dataset.tone = tone;
    this.banner.hidden = false;
    byId("banner-close").hidden = !this.lasting;
    setText(byId("banner-text"), text);
  }

  /** Take the banner away; what is missing comes to light again. */
  #hide() {
    this.lasting = this.missing !== "";
    if (this.lasting) this.#say("bad", this.missing);
    else this.banner.hidden = true;
  }

  #forget() {
    this.missing = "";
    this.gaps = 0;
  }
}

/**
 * Put a gap into words; its members are the gateway's, so nothing is taken for granted.
 * @param {unknown} gap
 */
function gapText(gap) {
  const { missing = gap } = /** @type {{missing?: unknown}} */ (Object(gap));
  return (Array.isArray(missing) ? missing : [missing]).map(rangeText).join("; ");
}

/** @param {any} range */
function rangeText(range) {
  const { topic, partition, expected_offset: from, next_offset: to } = Object(range);
  if (typeof from !== "number" || typeof to !== "number") return JSON.stringify(range);
  const where = `${topic}, partition ${partition}`;
  return to > from ? `${count(to - from)} of ${where} (offsets ${from} to ${to - 1})` : `${where} begins anew at offset ${to}`;
}

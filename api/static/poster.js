/**
 * The form that posts a transaction and follows it: accepted by Kafka, then decided.
 *
 * The page makes the transaction's id: sending the same again after a lost answer is then safe,
 * as the detector drops duplicates.
 */

import { announce } from "./announce.js";
import { byId, element } from "./dom.js";
import { duration } from "./format.js";
import { decisionBadge, ruleChip } from "./verdict.js";

/** @typedef {import("./verdict.js").Verdict} Verdict */

const FIELDS = ["source", "target", "amount", "currency"];
const FIRST_LOOK_MS = 500; // the stream is usually faster
const LONGEST_PAUSE_MS = 1000;
const PATIENCE_MS = 30_000;

export class Poster {
  /** @param {HTMLFormElement} form */
  constructor(form) {
    this.form = form;
    this.outcome = byId("outcome");
    this.id = newId();
    /** @type {Map<string, (verdict: Verdict) => void>} at most one: the transaction that is followed */
    this.watched = new Map();
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#post();
    });
    byId("fill-legit").addEventListener("click", () => this.#fill("120.00"));
    byId("fill-fraud").addEventListener("click", () => this.#fill("900.01"));
  }

  /** Take a verdict from the stream: it may be the one that is waited for. @param {Verdict} verdict */
  seen(verdict) {
    if (this.watched.size) this.watched.get(verdict.transaction_id)?.(verdict);
  }

  /** @param {string} amount */
  #fill(amount) {
    const field = /** @type {HTMLInputElement} */ (byId("post-amount"));
    field.value = amount;
    field.focus();
  }

  async #post() {
    const data = new FormData(this.form);
    const text = (/** @type {string} */ name) => String(data.get(name) ?? "");
    const note = text("note");
    const body = {
      transaction_id: this.id,
      ...Object.fromEntries(FIELDS.map((name) => [name, text(name)])),
      ...(note && { metadata: { note } }),
    };
    const button = /** @type {HTMLButtonElement} */ (byId("post-send"));
    button.disabled = true;
    this.#showErrors([]);
    const began = performance.now();
    const decided = this.#watch(body.transaction_id);
    let answer;
    let told;
    try {
      answer = await fetch("/transactions", {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
      });
      told = await answer.json();
    } catch {
      return this.#problem("The gateway does not answer. It may have the transaction or not: posting again is safe.");
    } finally {
      button.disabled = false;
    }
    if (!answer.ok) return this.#refused(told, answer.headers.get("Retry-After"));
    this.id = newId();
    await this.#follow(told, performance.now() - began, answer.headers.get("Location"), began, decided);
  }

  /**
   * @param {{transaction_id: string, topic: string, partition: number, offset: number}} receipt
   * @param {number} took
   * @param {string | null} location
   * @param {number} began
   * @param {Promise<Verdict>} decided
   */
  async #follow(receipt, took, location, began, decided) {
    const accepted = step("Accepted by Kafka", duration(took), "yes",
      `${receipt.topic}, partition ${receipt.partition}, offset ${receipt.offset}`);
    const waiting = step("Waiting for the verdict");
    this.outcome.replaceChildren(element("ol", { class: "steps" }, accepted, waiting));
    const looking = new AbortController();
    const address = location ?? `/transactions/${encodeURIComponent(receipt.transaction_id)}`;
    const verdict = await Promise.race([decided, lookUp(address, looking.signal)]);
    looking.abort();
    if (!verdict) {
      waiting.replaceWith(step("No verdict yet", duration(PATIENCE_MS), undefined,
        "The transaction is safe in Kafka. Its verdict will come when a detector runs."));
      return;
    }
    const done = step("", duration(performance.now() - began), verdict.decision);
    done.firstElementChild?.append("Decided ", decisionBadge(verdict.decision));
    const reasons = verdict.reasons.map((reason) =>
      element("p", {}, ruleChip(reason), " ", element("span", { class: "note" }, reason.detail)));
    done.append(element("div", { class: "why" }, ...reasons, element("a", { href: address }, "Look it up")));
    waiting.replaceWith(done);
    announce(`Decided: ${verdict.decision}`);
  }

  /** @param {string} id */
  #watch(id) {
    this.watched.clear();
    return new Promise((resolve) => this.watched.set(id, (/** @type {Verdict} */ verdict) => {
      this.watched.delete(id);
      resolve(verdict);
    }));
  }

  /**
   * @param {{title?: string, detail?: string, errors?: {pointer: string, detail: string}[]}} problem
   * @param {string | null} retryAfter
   */
  #refused(problem, retryAfter) {
    const errors = problem.errors ?? [];
    const elsewhere = this.#showErrors(errors);
    if (errors.length && !elsewhere.length) {
      this.outcome.replaceChildren();
      announce(`${errors.length} to correct: ${errors.map(({ detail }) => detail).join("; ")}`);
      /** @type {HTMLElement | null} */ (this.form.querySelector("[aria-invalid]"))?.focus();
      return;
    }
    const again = retryAfter ? ` Try again in ${retryAfter} s.` : "";
    const more = elsewhere.map(({ pointer, detail }) => ` ${pointer} ${detail}.`).join("");
    this.#problem(`${problem.title ?? "Refused"}. ${problem.detail ?? ""}${more}${again}`);
  }

  /**
   * Show errors at their fields; give those that belong to none.
   * @param {{pointer: string, detail: string}[]} errors
   */
  #showErrors(errors) {
    for (const name of [...FIELDS, "note"]) {
      const own = errors.filter(({ pointer }) => fieldOf(pointer) === name).map(({ detail }) => detail);
      const field = byId(`post-${name}`);
      byId(`post-${name}-error`).textContent = own.join("; ");
      if (own.length) field.setAttribute("aria-invalid", "true");
      else field.removeAttribute("aria-invalid");
    }
    return errors.filter(({ pointer }) => ![...FIELDS, "note"].includes(fieldOf(pointer)));
  }

  /** @param {string} text */
  #problem(text) {
    this.outcome.replaceChildren(element("p", { class: "problem" }, text));
  }
}

/** The form's field for a JSON pointer (RFC 6901). @param {string} pointer */
const fieldOf = (pointer) => (pointer.startsWith("/metadata") ? "note" : pointer.slice(1));

/**
 * @param {string} title
 * @param {string} [took]
 * @param {string} [done]
 * @param {string} [note]
 */
const step = (title, took = "", done = undefined, note = "") =>
  element("li", { "data-done": done }, element("span", {}, title), element("span", { class: "took" }, took),
    ...(note ? [element("span", { class: "note" }, note)] : []));

/**
 * Ask for the verdict until it is there.
 * @param {string} address
 * @param {AbortSignal} signal
 * @returns {Promise<Verdict | undefined>} undefined when the patience is over
 */
async function lookUp(address, signal) {
  const end = performance.now() + PATIENCE_MS;
  for (let pause = FIRST_LOOK_MS; performance.now() < end && !signal.aborted; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    const answer = await fetch(address, { cache: "no-store", signal }).catch(() => undefined);
    const told = answer?.status === 200 && (await answer.json().catch(() => undefined));
    if (told) return told.verdict;
  }
  return undefined;
}

/** A random UUID (RFC 9562, version 4); crypto.randomUUID would need HTTPS. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** Everything about one verdict, beside the list. */

import { copyButton } from "./copy.js";
import { element } from "./dom.js";
import { dateAndTime, duration } from "./format.js";
import { amountOf, decisionBadge, ruleChip } from "./verdict.js";

/** @typedef {import("./list.js").Entry} Entry */

export class Details {
  /**
   * @param {HTMLElement} root
   * @param {() => void} onClose
   */
  constructor(root, onClose) {
    this.root = root;
    this.onClose = onClose;
    root.addEventListener("keydown", (event) => {
      if (event.key === "Escape") onClose();
    });
  }

  get open() {
    return !this.root.hidden;
  }

  /** @param {Entry} entry */
  show(entry) {
    const { verdict } = entry;
    const close = element("button", { class: "button", type: "button", "aria-label": "Close the details" }, "Close");
    close.addEventListener("click", this.onClose);
    const json = JSON.stringify(verdict, null, 2);
    const raw = element("pre", { tabindex: 0, "aria-label": "The verdict as JSON" }, json);
    this.root.replaceChildren(
      element("div", { class: "details-top" },
        element("h2", { id: "details-title", tabindex: -1 }, ...amountOf(verdict), decisionBadge(verdict.decision)), close),
      element("h3", {}, "Transaction"),
      pairs([
        ["From", account(verdict.source)],
        ["To", account(verdict.target)],
        ["Id", element("span", { class: "mono" }, verdict.transaction_id)],
        ["Occurred", verdict.occurred_at && at(verdict.occurred_at)],
      ]),
      element("h3", {}, `Reasons, score ${verdict.score} of 100`),
      reasons(verdict),
      element("h3", {}, "Times"),
      pairs([
        ["Received", at(verdict.received_at)],
        ["Decided", after(verdict.received_at, Date.parse(verdict.decided_at))],
        ["Shown here", after(verdict.received_at, entry.arrived)],
        ["Rules", element("span", { class: "mono" }, verdict.rules_version)],
      ]),
      ...metadata(verdict),
      element("div", { class: "copy" }, element("h3", {}, "As JSON"), copyButton(() => json, "the verdict as JSON", raw)),
      raw,
    );
    this.root.hidden = false;
    this.root.scrollTop = 0;
  }

  /** Put the keyboard's focus there. */
  focus() {
    /** @type {HTMLElement | null} */ (this.root.querySelector("h2"))?.focus();
  }

  hide() {
    this.root.hidden = true;
    this.root.replaceChildren();
  }
}

/** @param {[string, Node | string | undefined][]} entries */
const pairs = (entries) =>
  element("dl", {}, ...entries.flatMap(([name, value]) =>
    value === undefined || value === "" ? [] : [element("dt", {}, name), element("dd", {}, value)]));

/** @param {string} name */
const account = (name) =>
  element("a", { href: `/stream/all?account=${encodeURIComponent(name)}`, title: "Only this account" }, name);

/** @param {string} instant */
const at = (instant) => element("time", { datetime: instant, title: instant }, dateAndTime(new Date(instant)));

/**
 * @param {string} start
 * @param {number} end
 */
function after(start, end) {
  const ms = end - Date.parse(start);
  return ms >= 0 ? `${duration(ms)} after` : `${duration(-ms)} before: the clocks differ`;
}

/** @param {import("./verdict.js").Verdict} verdict */
function reasons(verdict) {
  if (!verdict.reasons.length) return element("p", { class: "reasons note" }, "No rule spoke.");
  return element("ul", { class: "reasons" }, ...verdict.reasons.map((reason) =>
    element("li", {}, ruleChip(reason),
      element("span", { class: "note" }, ` version ${reason.version}${reason.shadow ? ", on trial: not counted" : ""}`),
      element("p", {}, reason.detail))));
}

/** @param {import("./verdict.js").Verdict} verdict */
const metadata = (verdict) =>
  verdict.metadata ? [element("h3", {}, "Metadata"), pairs(Object.entries(verdict.metadata))] : [];

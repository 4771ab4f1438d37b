/**
 * A verdict as it comes from a stream, and the pieces of page that show parts of it.
 *
 * @typedef {{rule: string, version: string, detail: string, shadow?: boolean}} Reason
 * @typedef {object} Verdict
 * @property {string} transaction_id
 * @property {string} source
 * @property {string} target
 * @property {string} amount a decimal in plain notation
 * @property {string} currency
 * @property {string} [occurred_at]
 * @property {Record<string, string>} [metadata]
 * @property {"legit" | "fraud"} decision
 * @property {number} score 0 to 100
 * @property {Reason[]} reasons
 * @property {string} rules_version
 * @property {string} received_at
 * @property {string} decided_at
 */

import { element } from "./dom.js";
import { moment, money } from "./format.js";

/** @param {string} decision */
export const decisionBadge = (decision) =>
  element("span", { class: "decision", "data-decision": decision }, decision === "fraud" ? "Fraud" : "Legit");

/** @param {Verdict} verdict */
export const amountOf = (verdict) => [
  element("span", { class: "amount" }, money(verdict.amount, verdict.currency)),
  " ", // for who hears or copies it
  element("span", { class: "currency" }, verdict.currency),
];

/**
 * The time in the reader's zone, with UTC as its title; the day, too, where it was not today.
 * @param {string} instant RFC 3339
 */
export const timeOf = (instant) =>
  element("time", { datetime: instant, title: `${instant.replace("T", " ").replace(/Z|\+00:00$/, "")} UTC` },
    moment(Date.parse(instant)));

/** @param {Reason} reason */
export const ruleChip = (reason) =>
  element("span", { class: "rule", "data-shadow": reason.shadow ? "" : undefined,
    title: reason.shadow ? `${reason.rule}, on trial: not counted` : reason.rule }, reason.rule);

/** The first reason in short, and how many more there are. @param {Verdict} verdict */
export function whyOf(verdict) {
  const [first, ...rest] = [...verdict.reasons].sort((a, b) => Number(!!a.shadow) - Number(!!b.shadow));
  if (!first) return [];
  const more = rest.length ? [element("span", { class: "note" }, `+${rest.length}`)] : [];
  return [ruleChip(first), ...more, element("span", { class: "detail cut", title: first.detail }, first.detail)];
}

/** @param {Verdict} verdict */
export const accountsOf = (verdict) => [
  element("span", { class: "cut", title: verdict.source }, verdict.source),
  element("span", { class: "arrow" }, element("span", { "aria-hidden": "true" }, "→"), element("span", { class: "unseen" }, " to ")),
  element("span", { class: "cut", title: verdict.target }, verdict.target),
];

/** The dashboard: one stream of all verdicts, made into figures, charts and lists. */

import { offset, skewNote } from "./clock.js";
import { Connection } from "./connection.js";
import { shellLine } from "./copy.js";
import { byId, setText } from "./dom.js";
import { count, dateAndTime, measure, percent } from "./format.js";
import { following, watchHealth } from "./health.js";
import { Latency } from "./latency.js";
import { LatestFrauds } from "./latest.js";
import { Painter } from "./paint.js";
import { Poster } from "./poster.js";
import { RateChart } from "./rate-chart.js";
import { RuleCounts } from "./rules.js";
import { now, Seconds } from "./seconds.js";
import { spark } from "./spark.js";
import { StatusBar } from "./status.js";
import { themeButton } from "./theme.js";

const WINDOW_S = 121;
const LEGIT = 0;
const FRAUD = 1;
const LAG_SAMPLES = 52;

const rates = new Seconds(WINDOW_S, 2);
const latency = new Latency(WINDOW_S);
const rules = new RuleCounts(WINDOW_S);
const latest = new LatestFrauds();
const poster = new Poster(/** @type {HTMLFormElement} */ (byId("post")));
const status = new StatusBar();
const chart = new RateChart(/** @type {HTMLCanvasElement} */ (byId("chart")), rates, [
  { index: FRAUD, name: "Fraud", colour: "fraud" },
  { index: LEGIT, name: "Legit", colour: "legit" },
]);
/** @type {number[]} */
const lags = new Array(LAG_SAMPLES).fill(NaN);
let received = 0;

const connection = new Connection("/stream/all", {
  verdict(verdict) {
    received += 1;
    const fraud = verdict.decision === "fraud";
    rates.add(fraud ? FRAUD : LEGIT);
    latency.add(verdict, connection.liveSince);
    rules.add(verdict);
    if (fraud) latest.add(verdict);
    poster.seen(verdict);
    status.passed(now() + offset() - Date.parse(verdict.decided_at));
    counter.request();
  },
  state(state) {
    if (state.name === "live" && !received) rates.clear(); // what came before it was open is no zero
    status.connectionChanged(state);
  },
  gap: (gap) => status.gap(gap),
});

const counter = new Painter(() => {
  byId("received").dataset.count = String(received);
  setText(byId("received"), count(received) + (connection.unreadable ? ` (${count(connection.unreadable)} unreadable)` : ""));
}, 5);
const figures = new Painter(paintFigures, 1);

function paintFigures() {
  chart.draw();
  const [legit, fraud] = [rates.rate(LEGIT, 5), rates.rate(FRAUD, 5)];
  setText(byId("throughput"), measure(legit + fraud));
  setText(byId("throughput-note"), `${measure(legit)} legit, ${measure(fraud)} fraud`);

  const [legits, frauds] = [rates.series(LEGIT), rates.series(FRAUD)];
  const ofLastMinute = rates.total(LEGIT, 60) + rates.total(FRAUD, 60);
  setText(byId("share"), ofLastMinute ? percent(rates.total(FRAUD, 60) / ofLastMinute) : "–");
  setText(byId("share-note"), `of ${count(ofLastMinute)} in the last minute`);

  const toPage = latency.toPage.read([0.5, 0.99], 30);
  const toDecision = latency.toDecision.read([0.5], 30);
  setText(byId("latency"), toPage ? measure(toPage[0]) : "–");
  setText(byId("latency-note"), toPage && toDecision
    ? `p99 ${measure(toPage[1])} ms; to the decision ${measure(toDecision[0])} ms${skewNote() && "; clock corrected"}`
    : "Last 30 seconds");
  byId("latency-note").title = skewNote();

  const all = legits.map((value, at) => value + frauds[at]);
  drawSpark("throughput", all, "legit");
  drawSpark("share", frauds.map((value, at) => (all[at] ? value / all[at] : NaN)), "fraud");
  drawSpark("latency", latency.toPage.series(0.5), "legit");
  drawSpark("lag", lags, "muted");

  byId("rules-empty").hidden = rules.show(byId("rules")) > 0;
}

/**
 * @param {string} name
 * @param {number[]} values
 * @param {string} token
 */
const drawSpark = (name, values, token) =>
  spark(/** @type {HTMLCanvasElement} */ (byId(`${name}-spark`)), values, token);

watchHealth((health) => {
  status.healthChanged(health);
  connection.expectHeartbeats(health.heartbeat_seconds);
  const { lag, clients } = following(health.streams ?? {});
  lags.push(lag ?? NaN);
  lags.shift();
  setText(byId("lag"), lag === undefined ? "–" : count(lag));
  setText(byId("lag-note"), lag === undefined ? "Not reported" : `behind Kafka; ${count(clients)} ${clients === 1 ? "client" : "clients"}`);
  if (health.version) {
    const since = health.started_at ? `, started ${dateAndTime(new Date(health.started_at))}` : "";
    setText(byId("about"), `fraudstream ${health.version}${since}`);
  }
});

const here = location.origin;
byId("shell").append(
  shellLine("Post a transaction", `curl ${here}/transactions -H 'content-type: application/json' -d '{"source":"acct-alice","target":"acct-bob","amount":"900.01"}'`),
  shellLine("Follow the frauds", `curl -N ${here}/stream/fraud`),
  shellLine("Only large ones in euro", `curl -N '${here}/stream/fraud?min_amount=5000&currency=EUR'`),
  shellLine("All, from the beginning", `curl -N '${here}/stream/all?since=earliest'`),
);
themeButton(byId("theme"), paintFigures);
setInterval(() => figures.request(), 1000);
figures.request();
addEventListener("pagehide", () => connection.close());
addEventListener("pageshow", (event) => event.persisted && location.reload());

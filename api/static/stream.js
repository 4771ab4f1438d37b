/** The live page of one stream: a list that can be followed, held and filtered, and two charts. */

import { AmountChart } from "./amount-chart.js";
import { announce } from "./announce.js";
import { offset } from "./clock.js";
import { Connection } from "./connection.js";
import { quoted, shellLine } from "./copy.js";
import { Details } from "./details.js";
import { byId, element, setText } from "./dom.js";
import { Filters } from "./filters.js";
import { count, measure } from "./format.js";
import { watchHealth } from "./health.js";
import { Latency } from "./latency.js";
import { VerdictList } from "./list.js";
import { Painter } from "./paint.js";
import { RateChart } from "./rate-chart.js";
import { Ring } from "./ring.js";
import { now, Seconds } from "./seconds.js";
import { StatusBar } from "./status.js";
import { themeButton } from "./theme.js";

/** @typedef {import("./list.js").Entry} Entry */

const KEPT = 5000;
const WINDOW_S = 121;
const LATENCY_S = 31;
const LEGIT = 0;
const FRAUD = 1;
const CALM_RATE = 40; // verdicts a second; above it the list is painted less often
const MOST_SUGGESTIONS = 50;

const name = document.body.dataset.stream ?? "all";
/** @type {Ring<Entry>} */
const ring = new Ring(KEPT);
const rates = new Seconds(WINDOW_S, 2);
const status = new StatusBar();
const details = new Details(byId("details"), closeDetails);
const list = new VerdictList(byId("list"), ring, { onOpen: openDetails, onClose: closeDetails, onLeave: left });
const layers = [
  { index: FRAUD, name: "Fraud", colour: "fraud" },
  { index: LEGIT, name: "Legit", colour: "legit" },
].filter((layer) => name === "all" || layer.colour === name);
const chart = new RateChart(/** @type {HTMLCanvasElement} */ (byId("chart")), rates, layers);
const amounts = new AmountChart(/** @type {HTMLCanvasElement} */ (byId("amounts")), WINDOW_S, name === "fraud" ? "fraud" : "legit");
const filters = new Filters(/** @type {HTMLFormElement} */ (byId("filters")), restart);
const suggestions = { currencies: new Set(), rules: new Set() };

let latency = new Latency(LATENCY_S);
let received = 0;
let following = true;
let paused = false;
/** Whether the mouse is over the list: it holds still, so that the row clicked is the row meant. */
let pointing = false;
let connection = connect();

const listPainter = new Painter(paintList, 4);
const chartPainter = new Painter(paintCharts, 1);

function connect() {
  const made = new Connection(`/stream/${name}${filters.query}`, {
    verdict(verdict, id) {
      received += 1;
      const arrived = now() + offset();
      ring.push({ number: received, id, arrived, verdict });
      rates.add(verdict.decision === "fraud" ? FRAUD : LEGIT);
      amounts.add(verdict.amount);
      latency.add(verdict, made.liveSince);
      suggest(verdict);
      status.passed(arrived - Date.parse(verdict.decided_at));
      listPainter.request();
    },
    state(state) {
      if (state.name === "live" && !received) clearCharts(); // what came before it was open is no zero
      status.connectionChanged(state);
      if (state.name === "refused") filters.showErrors(state.problem?.errors ?? []);
    },
    gap: (gap) => status.gap(gap),
  });
  return made;
}

function clearCharts() {
  rates.clear();
  amounts.clear();
}

/** Begin anew with other filters: what is shown so far does not belong to them. */
function restart() {
  connection.close();
  ring.clear();
  clearCharts();
  latency = new Latency(LATENCY_S);
  received = 0;
  setFollowing(true);
  closeDetails();
  list.clear();
  connection = connect();
  showAddress();
  listPainter.request();
  chartPainter.request();
}

function paintList() {
  const rate = rates.rate(LEGIT, 5) + rates.rate(FRAUD, 5);
  listPainter.perSecond = rate > CALM_RATE ? 4 : 20;
  byId("received").dataset.count = String(received);
  setText(byId("received"), count(received) + (connection.unreadable ? ` (${count(connection.unreadable)} unreadable)` : ""));
  const newer = received - list.newest;
  byId("newer").hidden = paused || following || !newer;
  setText(byId("newer"), `↑ ${count(newer)} newer`);
  byId("list-empty").hidden = list.shown.length > 0;
  setText(byId("list-empty"), filters.any ? "Nothing has matched the filter yet." : "Nothing yet. Verdicts appear here as they are decided.");
  setText(byId("list-note"), noteOn(rate));
  if (!list.holding) list.paint();
}

/** Say what the list leaves out. @param {number} rate */
function noteOn(rate) {
  const newer = count(received - list.newest);
  if (paused) return `Paused. ${newer} arrived meanwhile.`;
  if (!following) return `Held while you read: the ${count(list.shown.length)} up to then.`;
  if (pointing && list.holding) return `Held while you point at it: ${newer} newer.`;
  const painted = list.rows.size * listPainter.perSecond;
  const every = Math.floor(rate / Math.max(1, painted));
  const passing = every > 1 ? `Showing 1 of ${count(every)} as they pass. ` : "";
  return received > KEPT ? `${passing}The latest ${count(KEPT)} can be scrolled to.` : passing;
}

function paintCharts() {
  if (paused) return;
  chart.draw();
  amounts.draw();
  setText(byId("rate"), measure(rates.rate(LEGIT, 5) + rates.rate(FRAUD, 5)));
  const quantiles = latency.toPage.read([0.5], LATENCY_S - 1);
  setText(byId("latency"), quantiles ? `${measure(quantiles[0])} ms` : "–");
  listPainter.request();
}

/** @param {boolean} wanted */
function setPaused(wanted) {
  if (wanted === paused) return;
  paused = wanted;
  if (paused) list.hold();
  else if (following) list.release();
  byId("pause").setAttribute("aria-pressed", String(paused));
  setText(byId("pause"), paused ? "Resume" : "Pause");
  announce(paused ? "Paused" : "Resumed");
  listPainter.request();
  chartPainter.request();
}

/** @param {boolean} wanted */
function setFollowing(wanted) {
  following = wanted;
  byId("follow").setAttribute("aria-pressed", String(following));
  if (following) {
    setPaused(false);
    list.release();
  } else {
    list.hold();
  }
  listPainter.request();
}

/** The reader left the top of the list: hold it still. */
function left() {
  if (!following || paused) return;
  setFollowing(false);
  announce("The list holds still");
}

/** @param {boolean} wanted */
function setPointing(wanted) {
  pointing = wanted;
  if (following && !paused) {
    if (pointing) list.hold();
    else list.release();
  }
  listPainter.request();
}

/** @param {Entry} entry */
function openDetails(entry) {
  details.show(entry);
  byId("browser").classList.add("open");
  list.paint();
  details.focus();
}

function closeDetails() {
  if (!details.open) return;
  const focused = byId("details").contains(document.activeElement);
  details.hide();
  byId("browser").classList.remove("open");
  list.paint();
  if (focused) byId("list").focus({ preventScroll: true });
}

/** Offer what has been seen as filter values. @param {import("./verdict.js").Verdict} verdict */
function suggest(verdict) {
  offer(suggestions.currencies, verdict.currency, "seen-currencies");
  for (const { rule } of verdict.reasons) offer(suggestions.rules, rule, "seen-rules");
}

/**
 * @param {Set<string>} seen
 * @param {string} value
 * @param {string} target
 */
function offer(seen, value, target) {
  if (seen.has(value) || seen.size >= MOST_SUGGESTIONS) return;
  seen.add(value);
  byId(target).append(element("option", { value }));
}

function showAddress() {
  const address = `${location.origin}/stream/${name}${filters.query}`;
  byId("shell").replaceChildren(shellLine("In a shell", `curl -N ${quoted(address)}`));
  const raw = new URL(address);
  raw.searchParams.set("raw", "true"); // the same address gives a browser this page
  byId("raw-link").setAttribute("href", raw.href);
}

// A phone shows the filters when asked, or when there are some; elsewhere they are always there.
const wide = matchMedia("(min-width: 761px)");
const showFilters = () => byId("filter-box").toggleAttribute("open", wide.matches || filters.any);
wide.addEventListener("change", showFilters);
showFilters();
byId("pause").addEventListener("click", () => setPaused(!paused));
byId("follow").addEventListener("click", () => setFollowing(!following));
byId("list").addEventListener("pointerenter", (event) => event.pointerType === "mouse" && setPointing(true));
byId("list").addEventListener("pointerleave", () => pointing && setPointing(false));
byId("newer").addEventListener("click", () => setFollowing(true));
for (const item of document.querySelectorAll(".legend [data-for]")) {
  /** @type {HTMLElement} */ (item).hidden = name !== "all";
}
themeButton(byId("theme"), () => {
  chart.draw();
  amounts.draw();
});
watchHealth((health) => {
  status.healthChanged(health);
  connection.expectHeartbeats(health.heartbeat_seconds);
});
showAddress();
setInterval(() => chartPainter.request(), 1000);
chartPainter.request();
listPainter.request();
addEventListener("pagehide", () => connection.close());
addEventListener("pageshow", (event) => event.persisted && location.reload());

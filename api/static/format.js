/** How numbers, money and times are written, in the reader's language and zone. */

const MOST_FORMATTERS = 64;
const [SECOND, MINUTE, HOUR, DAY] = [1000, 60_000, 3_600_000, 86_400_000];
/** How a duration below so many ms is written: in what units, of how many ms each. */
const UNITS = /** @type {const} */ ([
  [HOUR, "min", MINUTE, "s", SECOND],
  [DAY, "h", HOUR, "min", MINUTE],
  [Infinity, "d", DAY, "h", HOUR],
]);
/** @type {Map<string, Intl.NumberFormat>} */
const formatters = new Map();
const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1, minimumFractionDigits: 1 });
const rough = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 2 });
const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23",
});
const shortClock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
const dayAndMinute = new Intl.DateTimeFormat(undefined, {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
});
const fullTime = new Intl.DateTimeFormat(undefined, {
  dateStyle: "medium", timeStyle: "long",
});

/**
 * Write an amount with all its digits. The decimal string goes to Intl as it is: a number would
 * lose digits.
 * @param {string} amount
 * @param {string} currency
 */
export function money(amount, currency) {
  const fraction = amount.length - amount.indexOf(".") - 1;
  const digits = amount.includes(".") ? Math.min(fraction, 20) : 0;
  const key = `${currency}/${digits}`;
  let formatter = formatters.get(key);
  if (!formatter) {
    if (formatters.size >= MOST_FORMATTERS) formatters.clear();
    const least = Math.max(usualDigits(currency), digits);
    formatter = new Intl.NumberFormat(undefined, { minimumFractionDigits: least, maximumFractionDigits: least });
    formatters.set(key, formatter);
  }
  return formatter.format(/** @type {any} */ (amount));
}

/** @param {string} currency */
function usualDigits(currency) {
  if (!/^[A-Z]{3}$/.test(currency)) return 2;
  const options = new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions();
  return options.maximumFractionDigits ?? 2;
}

/** @param {number} value */
export const count = (value) => whole.format(value);

/** Short for axes: 1.2K, 0.01. @param {number} value */
export const brief = (value) => (value < 10 && value % 1 ? rough : compact).format(value);

/** One digit after the point below 10, none above. @param {number} value */
export const measure = (value) => (value < 9.95 && value > 0 ? fine : whole).format(value);

/** A share in percent, without the sign. @param {number} share from 0 to 1 */
export const percent = (share) => fine.format(100 * share);

const isToday = (/** @type {number} */ time) => new Date(time).toDateString() === new Date().toDateString();

/** To the millisecond; of another day than today the day, and to the minute. @param {number} time ms since the Unix epoch */
export const moment = (time) => (isToday(time) ? clock : dayAndMinute).format(time);

/** The same, to the second. @param {number} time */
export const calmMoment = (time) => (isToday(time) ? shortClock : dayAndMinute).format(time);

/** @param {number | Date} time */
export const toTheSecond = (time) => shortClock.format(time);

/** @param {number | Date} time */
export const dateAndTime = (time) => fullTime.format(time);

/** How long something took. @param {number} ms */
export function duration(ms) {
  if (ms < 1000) return `${measure(ms)} ms`;
  if (ms < MINUTE) return `${fine.format(ms / SECOND)} s`;
  const [, large, size, small, part] = /** @type {typeof UNITS[number]} */ (UNITS.find(([below]) => ms < below));
  return `${whole.format(Math.floor(ms / size))} ${large} ${whole.format(Math.floor((ms % size) / part))} ${small}`;
}

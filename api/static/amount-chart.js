/** Amounts over time as a heat map: one column a second, one row a quarter of a decade. */

import { MARGIN, sheet, timeAxis } from "./canvas.js";
import { brief } from "./format.js";
import { Seconds } from "./seconds.js";

const PER_DECADE = 6;
const FROM = -2; // 0.01, the smallest amount that is common
const DECADES = 12;
const BINS = PER_DECADE * DECADES;
const LEAST_ROWS = 3 * PER_DECADE;

export class AmountChart {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {number} seconds the window
   * @param {string} token the colour
   */
  constructor(canvas, seconds, token) {
    this.canvas = canvas;
    this.token = token;
    this.seconds = new Seconds(seconds, BINS);
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** @param {string} amount only placed, never shown: a float is near enough */
  add(amount) {
    const bin = Math.floor((Math.log10(Number(amount)) - FROM) * PER_DECADE);
    if (!Number.isNaN(bin)) this.seconds.add(Math.min(BINS - 1, Math.max(0, bin)));
  }

  clear() {
    this.seconds.clear();
  }

  draw() {
    this.seconds.advance();
    const on = sheet(this.canvas);
    const { pen, width, height, colour } = on;
    const shown = this.seconds.span;
    const [lowest, rows, most] = this.#extent();
    const column = (width - MARGIN.left - MARGIN.right) / shown;
    const row = (height - MARGIN.top - MARGIN.bottom) / rows;
    const x = (/** @type {number} */ ago) => width - MARGIN.right - (ago + 1) * column;
    const y = (/** @type {number} */ bin) => height - MARGIN.bottom - (bin - lowest + 1) * row;

    timeAxis(on, this.seconds.second - 1, shown, x);
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    pen.strokeStyle = colour("line");
    for (let bin = Math.ceil(lowest / PER_DECADE) * PER_DECADE; bin <= lowest + rows; bin += PER_DECADE) {
      const at = Math.round(y(bin) + row) + 0.5;
      pen.fillText(brief(10 ** (bin / PER_DECADE + FROM)), MARGIN.left - 8, at);
      pen.beginPath();
      pen.moveTo(MARGIN.left, at);
      pen.lineTo(width - MARGIN.right, at);
      pen.stroke();
    }
    pen.fillStyle = colour(this.token);
    for (let age = 1; age <= this.seconds.whole; age += 1) {
      for (let bin = lowest; bin < lowest + rows; bin += 1) {
        const value = this.seconds.at(age, bin);
        if (!value) continue;
        pen.globalAlpha = 0.18 + 0.82 * Math.sqrt(value / most);
        pen.fillRect(x(age - 1), y(bin), Math.max(1, column - 0.5), Math.max(1, row - 0.5));
      }
    }
    pen.globalAlpha = 1;
  }

  /** The rows in use: the lowest one, how many, and the fullest cell's count. */
  #extent() {
    let [low, high, most] = [BINS, -1, 1];
    for (let age = 1; age <= this.seconds.whole; age += 1) {
      for (let bin = 0; bin < BINS; bin += 1) {
        const value = this.seconds.at(age, bin);
        if (!value) continue;
        low = Math.min(low, bin);
        high = Math.max(high, bin);
        most = Math.max(most, value);
      }
    }
    if (high < 0) [low, high] = [2 * PER_DECADE, 5 * PER_DECADE];
    low = Math.max(0, low - 1);
    return [low, Math.max(LEAST_ROWS, high + 2 - low), most];
  }
}

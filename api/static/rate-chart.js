/** Verdicts per second as stacked areas, fraud below; a cursor reads single seconds. */

import { MARGIN, roundTicks, sheet, timeAxis } from "./canvas.js";
import { brief, count, toTheSecond } from "./format.js";

/** @typedef {{index: number, name: string, colour: string}} Layer one of the sums in Seconds */

export class RateChart {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./seconds.js").Seconds} seconds
   * @param {Layer[]} layers bottom first
   */
  constructor(canvas, seconds, layers) {
    this.canvas = canvas;
    this.seconds = seconds;
    this.layers = layers;
    /** @type {number | undefined} seconds ago, 0 the last whole one */
    this.cursor = undefined;
    canvas.addEventListener("pointermove", (event) => this.#point(event.offsetX));
    canvas.addEventListener("pointerleave", () => this.#move(undefined));
    canvas.addEventListener("blur", () => this.#move(undefined));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  draw() {
    this.seconds.advance();
    const on = sheet(this.canvas);
    const { pen, width, height, colour } = on;
    const shown = this.seconds.span;
    const stacked = this.#stack();
    const ticks = roundTicks(Math.max(0, ...stacked[stacked.length - 1].filter((value) => value >= 0)) * 1.05, 4);
    const top = ticks[ticks.length - 1];
    const x = (/** @type {number} */ ago) => width - MARGIN.right - (ago / (shown - 1)) * (width - MARGIN.left - MARGIN.right);
    const y = (/** @type {number} */ value) => height - MARGIN.bottom - (value / top) * (height - MARGIN.top - MARGIN.bottom);

    this.#grid(on, ticks, y);
    timeAxis(on, this.seconds.second - 1, shown, x);
    this.layers.forEach((layer, index) => {
      const upper = stacked[index + 1];
      const lower = stacked[index];
      const from = upper.findIndex((value) => !Number.isNaN(value));
      if (from < 0) return;
      pen.beginPath();
      for (let at = from; at < shown; at += 1) pen.lineTo(x(shown - 1 - at), y(upper[at]));
      pen.strokeStyle = colour(layer.colour);
      pen.lineWidth = 1.5;
      pen.lineJoin = "round";
      pen.stroke();
      for (let at = shown - 1; at >= from; at -= 1) pen.lineTo(x(shown - 1 - at), y(lower[at]));
      pen.closePath();
      pen.globalAlpha = index ? 0.14 : 0.3;
      pen.fillStyle = colour(layer.colour);
      pen.fill();
      pen.globalAlpha = 1;
    });
    if (this.cursor !== undefined && this.cursor < this.seconds.whole) this.#readings(on, x, y, stacked);
    this.#describe();
  }

  /** The layers' running sums: [0…, layer 0, layer 0 + layer 1, …]. */
  #stack() {
    const none = new Array(this.seconds.span).fill(0);
    return this.layers.reduce((sums, layer) => {
      const series = this.seconds.series(layer.index);
      const below = sums[sums.length - 1];
      return [...sums, series.map((value, at) => value + below[at])];
    }, [none]);
  }

  /**
   * @param {import("./canvas.js").Sheet} on
   * @param {number[]} ticks
   * @param {(value: number) => number} y
   */
  #grid({ pen, width, colour }, ticks, y) {
    pen.strokeStyle = colour("line");
    pen.fillStyle = colour("muted");
    pen.lineWidth = 1;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const tick of ticks) {
      const at = Math.round(y(tick)) + 0.5;
      pen.beginPath();
      pen.moveTo(MARGIN.left, at);
      pen.lineTo(width - MARGIN.right, at);
      pen.stroke();
      pen.fillText(brief(tick), MARGIN.left - 8, at);
    }
  }

  /**
   * @param {import("./canvas.js").Sheet} on
   * @param {(ago: number) => number} x
   * @param {(value: number) => number} y
   * @param {number[][]} stacked
   */
  #readings({ pen, width, height, colour }, x, y, stacked) {
    const ago = /** @type {number} */ (this.cursor);
    const at = Math.round(x(ago)) + 0.5;
    pen.strokeStyle = colour("muted");
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(at, MARGIN.top);
    pen.lineTo(at, height - MARGIN.bottom);
    pen.stroke();
    const lines = this.#reading(ago);
    const box = Math.max(...lines.map((line) => pen.measureText(line).width)) + 20;
    const left = at + 10 + box > width ? at - 10 - box : at + 10;
    pen.fillStyle = colour("surface");
    pen.strokeStyle = colour("line");
    pen.beginPath();
    pen.roundRect(left, MARGIN.top, box, lines.length * 17 + 10, 6);
    pen.fill();
    pen.stroke();
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    pen.fillStyle = colour("text");
    lines.forEach((line, row) => pen.fillText(line, left + 10, MARGIN.top + 14 + row * 17));
    this.layers.forEach((layer, index) => {
      pen.fillStyle = colour(layer.colour);
      pen.beginPath();
      pen.arc(at, y(stacked[index + 1][this.seconds.span - 1 - ago]), 3.5, 0, 2 * Math.PI);
      pen.fill();
    });
  }

  /** @param {number} ago */
  #reading(ago) {
    const values = this.layers.map((layer) => `${layer.name} ${count(this.seconds.at(ago + 1, layer.index))}`);
    return [toTheSecond((this.seconds.second - 1 - ago) * 1000), ...values.reverse()];
  }

  #describe() {
    const named = this.layers.map((layer) => `${layer.name} ${count(this.seconds.rate(layer.index, 10))}`);
    const label = this.cursor === undefined
      ? `Verdicts per second over the last two minutes; now ${named.reverse().join(", ")}. Arrow keys read single seconds.`
      : this.#reading(this.cursor).join(", ");
    if (document.activeElement === this.canvas || !this.canvas.dataset.described) {
      this.canvas.setAttribute("aria-label", label);
      this.canvas.dataset.described = "yes";
    }
  }

  /** @param {number} offsetX */
  #point(offsetX) {
    const plot = this.canvas.clientWidth - MARGIN.left - MARGIN.right;
    const ago = Math.round(((this.canvas.clientWidth - MARGIN.right - offsetX) / plot) * (this.seconds.span - 1));
    this.#move(ago >= 0 && ago < this.seconds.span ? ago : undefined);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = { ArrowLeft: 1, ArrowRight: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const last = Math.max(0, this.seconds.whole - 1);
    this.#move(Math.min(last, Math.max(0, this.cursor === undefined ? 0 : this.cursor + step)));
  }

  /** @param {number | undefined} ago */
  #move(ago) {
    if (ago === this.cursor) return;
    this.cursor = ago;
    this.draw();
  }
}

/** What the charts share: sharp pixels, the theme's colours, a time axis, round ticks. */

import { toTheSecond } from "./format.js";

export const MARGIN = { left: 58, right: 16, top: 10, bottom: 24 };
const TICKS_S = [5, 10, 15, 30, 60];
const LABEL_WIDTH = 74;

/**
 * @typedef {object} Sheet
 * @property {CanvasRenderingContext2D} pen
 * @property {number} width in CSS pixels
 * @property {number} height
 * @property {(name: string) => string} colour a token of base.css
 */

/**
 * Clear a canvas, fit it to its box and the screen's pixels, and give what is needed to draw.
 * @param {HTMLCanvasElement} canvas
 * @returns {Sheet}
 */
export function sheet(canvas) {
  const ratio = devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const style = getComputedStyle(canvas);
  pen.font = `11px ${style.fontFamily}`;
  return { pen, width, height, colour: (name) => style.getPropertyValue(`--${name}`) };
}

/**
 * Give round values from 0 up to at least the top, about `steps` of them.
 * @param {number} top
 * @param {number} steps
 */
export function roundTicks(top, steps) {
  const rough = Math.max(top, 1) / steps;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough) ?? rough);
  return Array.from({ length: Math.ceil(Math.max(top, 1) / step) + 1 }, (_, index) => index * step);
}

/**
 * Draw the clock times under a plot whose right edge is the last whole second.
 * @param {Sheet} on
 * @param {number} lastSecond Unix seconds
 * @param {number} seconds shown
 * @param {(secondsAgo: number) => number} x
 */
export function timeAxis({ pen, width, height, colour }, lastSecond, seconds, x) {
  pen.fillStyle = colour("muted");
  pen.textBaseline = "alphabetic";
  pen.textAlign = "center";
  const plot = width - MARGIN.left - MARGIN.right;
  const every = TICKS_S.find((each) => (plot * each) / seconds >= LABEL_WIDTH) ?? 60;
  for (let second = lastSecond - (lastSecond % every); second > lastSecond - seconds; second -= every) {
    const at = x(lastSecond - second);
    if (at > MARGIN.left + 20 && at < width - 36) pen.fillText(toTheSecond(second * 1000), at, height - 7);
  }
}

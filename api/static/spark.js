/** A small line under a figure, without axes. */

import { sheet } from "./canvas.js";

/**
 * @param {HTMLCanvasElement} canvas
 * @param {number[]} values oldest first; NaN where nothing is known
 * @param {string} token the line's colour
 */
export function spark(canvas, values, token) {
  const { pen, width, height, colour } = sheet(canvas);
  const top = Math.max(1e-9, ...values.filter((value) => !Number.isNaN(value))) * 1.15;
  const x = (/** @type {number} */ at) => (at / (values.length - 1)) * width;
  const y = (/** @type {number} */ value) => height - 1 - (value / top) * (height - 4);
  pen.strokeStyle = pen.fillStyle = colour(token);
  pen.lineWidth = 1.5;
  pen.lineJoin = "round";
  let from = -1;
  values.forEach((value, at) => {
    const known = !Number.isNaN(value);
    if (known && from < 0) {
      pen.beginPath();
      from = at;
    }
    if (known) pen.lineTo(x(at), y(value));
    if (from >= 0 && (!known || at === values.length - 1)) {
      pen.stroke();
      pen.lineTo(x(known ? at : at - 1), height);
      pen.lineTo(x(from), height);
      pen.globalAlpha = 0.12;
      pen.fill();
      pen.globalAlpha = 1;
      from = -1;
    }
  });
}

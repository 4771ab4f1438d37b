/** Lines for a shell, each with a button that copies it. */

import { announce } from "./announce.js";
import { element } from "./dom.js";

const SHOWN_MS = 1600;
const CURL_WITH_KEY = 'curl -H "Authorization: Bearer $KEY"';
/** Whether the gateway asks who comes. */
let asked = false;

/**
 * @param {() => string} text what to copy, asked for when the button is pressed
 * @param {string} label what it is, for screen readers
 * @param {HTMLElement} [source] selected where the clipboard is out of reach (plain HTTP)
 */
export function copyButton(text, label, source) {
  const button = element("button", { class: "button", type: "button", "aria-label": `Copy ${label}` }, "Copy");
  button.addEventListener("click", async () => {
    const copied = await copy(text());
    if (!copied && source) getSelection()?.selectAllChildren(source);
    button.textContent = copied ? "Copied" : "Press Ctrl+C";
    announce(copied ? "Copied" : "Selected, press Control C to copy");
    setTimeout(() => (button.textContent = "Copy"), SHOWN_MS);
  });
  return button;
}

/** @param {string} text */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // no clipboard without HTTPS, or not permitted: the caller says so
  }
}

/**
 * @param {string} what
 * @param {string} line
 */
export function shellLine(what, line) {
  const code = element("code", { tabindex: 0, "aria-label": what }, withKey(line));
  const button = copyButton(() => code.textContent ?? "", what, code);
  return element("li", {}, element("span", { class: "what" }, what), code, button);
}

/** Have all lines send a key along, those that are there and those to come. */
export function askForKeys() {
  if (asked) return;
  asked = true;
  for (const code of document.querySelectorAll(".shell code")) code.textContent = withKey(code.textContent ?? "");
}

/** @param {string} line */
const withKey = (line) => (asked ? line.replace(/^curl/, () => CURL_WITH_KEY) : line);

/** Quote for a POSIX shell. @param {string} text */
export const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The filters: a form, the page's address and the stream's address, all saying the same. */

import { offset } from "./clock.js";
import { byId } from "./dom.js";
import { now } from "./seconds.js";

const NAMES = ["account", "min_amount", "currency", "rule", "since"];

export class Filters {
  /**
   * @param {HTMLFormElement} form
   * @param {() => void} onChange
   */
  constructor(form, onChange) {
    this.form = form;
    this.onChange = onChange;
    this.#fromAddress();
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#apply();
    });
    form.addEventListener("reset", () => setTimeout(() => this.#apply()));
    byId("filter-since").addEventListener("change", () => this.#apply());
    addEventListener("popstate", () => {
      this.#fromAddress();
      onChange();
    });
  }

  /** The query as the stream takes it, with its "?", or nothing. */
  get query() {
    return location.search;
  }

  get any() {
    return NAMES.some((name) => new URLSearchParams(location.search).has(name));
  }

  /** Show refused parameters at their fields. @param {{pointer: string, detail: string}[]} errors */
  showErrors(errors) {
    for (const name of NAMES) this.#error(name, errors.find(({ pointer }) => pointer.split("/").includes(name))?.detail);
  }

  #apply() {
    const wanted = new URLSearchParams();
    for (const [name, value] of new FormData(this.form)) {
      const text = String(value).trim();
      if (text) wanted.set(name, name === "since" ? fixed(text) : name === "currency" ? text.toUpperCase() : text);
    }
    const query = wanted.size ? `?${wanted}` : "";
    if (query === location.search) return;
    history.pushState(null, "", location.pathname + query);
    this.#fromAddress();
    this.onChange();
  }

  #fromAddress() {
    const given = new URLSearchParams(location.search);
    for (const name of NAMES) {
      const value = given.get(name) ?? "";
      if (name === "since") offer(value);
      /** @type {HTMLInputElement} */ (byId(`filter-${name}`)).value = value;
      this.#error(name, undefined);
    }
  }

  /**
   * @param {string} name
   * @param {string | undefined} text
   */
  #error(name, text) {
    const field = byId(`filter-${name}`);
    byId(`filter-${name}-error`).textContent = text ?? "";
    if (text) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
  }
}

/**
 * Make "-60" (seconds ago) a point in time, so that the address means the same later; by the
 * gateway's clock, as it is the gateway that is asked.
 * @param {string} since
 */
const fixed = (since) => (since.startsWith("-") ? new Date(now() + offset() + 1000 * Number(since)).toISOString() : since);

/** Have the choice offer a point in time that came with the address. @param {string} since */
function offer(since) {
  const select = /** @type {HTMLSelectElement} */ (byId("filter-since"));
  if ([...select.options].some((option) => option.value === since)) return;
  const when = new Date(/^\d+$/.test(since) ? Number(since) : since);
  const text = Number.isNaN(when.getTime()) ? since : `at ${when.toLocaleString()}`;
  select.add(new Option(text, since));
}

/** Elements made from data. Strings only ever become text nodes and attribute values. */

/**
 * Give the element with an id; the pages own their ids, so it is there.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @returns {T}
 */
export const byId = (id) => /** @type {T} */ (document.getElementById(id));

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | number | undefined>} [attributes] undefined ones are left out
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) made.setAttribute(name, String(value));
  }
  made.append(...children);
  return made;
}

/**
 * Set an element's text, leaving the DOM alone where nothing changes.
 * @param {Element} target
 * @param {string} text
 */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/**
 * Give an element these children, in this order, moving no more than must be: what is moved loses
 * the focus, and a click that has begun on it.
 * @param {Element} parent
 * @param {Element[]} children
 */
export function arrange(parent, children) {
  for (const child of [...parent.children]) {
    if (!children.includes(child)) child.remove();
  }
  if (children.every((child, index) => child === parent.children[index])) return;
  const still = children.findIndex((child) => child.contains(document.activeElement));
  const [before, after] = still < 0 ? [[], children] : [children.slice(0, still), children.slice(still + 1)];
  for (const child of before) parent.insertBefore(child, children[still]);
  parent.append(...after);
}

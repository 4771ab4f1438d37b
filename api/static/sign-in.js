/**
 * Go on at once where a session is there already: a browser does not send the cookie (SameSite=Strict)
 * when a link on another site leads here, but it does when this page asks.
 */

const form = /** @type {HTMLFormElement} */ (document.getElementById("sign-in"));
const next = /** @type {HTMLInputElement} */ (form.elements.namedItem("next")).value;

if (new URLSearchParams(location.search).has("next")) {
  const answer = await fetch("/status.json", { cache: "no-store" }).catch(() => undefined);
  if (answer?.ok) location.replace(next);
}

/** Who is signed in, and the way to the sign-in page when nobody is any more. */

import { askForKeys } from "./copy.js";
import { byId, setText } from "./dom.js";

/** @param {{id: string, name: string, scopes: string[]} | null | undefined} principal */
export function showPrincipal(principal) {
  if (principal) askForKeys();
  byId("signed-in").hidden = !principal;
  setText(byId("principal"), principal?.name ?? "");
}

/** Ask for a credential, and come back here with it. */
export function signIn() {
  const here = location.pathname + location.search;
  location.replace(`/sign-in?next=${encodeURIComponent(here)}`);
}

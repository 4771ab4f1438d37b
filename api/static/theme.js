/** The theme button: follow the system, or stay light or dark. */

const CHOICES = ["system", "light", "dark"];

/**
 * @param {HTMLElement} button
 * @param {() => void} onChange called when the colours have changed, for the canvases
 */
export function themeButton(button, onChange) {
  const show = () => {
    button.textContent = `Theme: ${document.documentElement.dataset.theme ?? "system"}`;
  };
  button.addEventListener("click", () => {
    const root = document.documentElement;
    const next = CHOICES[(CHOICES.indexOf(root.dataset.theme ?? "system") + 1) % CHOICES.length];
    if (next === "system") delete root.dataset.theme;
    else root.dataset.theme = next;
    keep(next);
    show();
    onChange();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", onChange);
  show();
}

/** @param {string} choice */
function keep(choice) {
  try {
    if (choice === "system") localStorage.removeItem("theme");
    else localStorage.setItem("theme", choice);
  } catch {
    // Where a browser keeps nothing for pages, the choice is this page's.
  }
}

// Sets the chosen theme before the first paint; a classic script, so that it runs at once.
(() => {
  try {
    const chosen = localStorage.getItem("theme");
    if (chosen) document.documentElement.dataset.theme = chosen;
  } catch {
    // Nothing is kept for pages here: the system's.
  }
})();

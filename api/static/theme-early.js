// Sets the chosen theme before the first paint; a classic script, so that it runs at once.
(() => {
  const chosen = localStorage.getItem("theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
})();

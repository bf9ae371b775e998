// Before the first paint: the theme that was chosen, or the system's.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("tapeline.theme"); } catch { /* not allowed: the system's */ }
  const light = matchMedia("(prefers-color-scheme: light)").matches;
  document.documentElement.dataset.theme = chosen === "light" || chosen === "dark" ? chosen : light ? "light" : "dark";
})();

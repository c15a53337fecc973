// Runs before the first paint, so that no page flashes in the other theme. The switch itself is in shell.js.
try {
  const kept = localStorage.getItem("theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
} catch {
  // A browser that keeps nothing shows the theme of the system.
}

// Runs before the first paint, so that no page flashes in the other theme. The switch itself is in shell.js.
try {
  document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "system";
} catch {
  // A browser that keeps nothing shows the theme of the system.
}

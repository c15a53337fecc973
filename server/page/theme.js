// Runs before the first paint, so that no page flashes in the other theme.
try {
  document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "system";
} catch {
  // A browser that keeps nothing has the theme of the system.
}

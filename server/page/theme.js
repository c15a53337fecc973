// Runs before the first paint, so that no page flashes in the other theme.
try {
  document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "system";
} catch {} // of a browser that keeps nothing

// Before the first paint, so that a chosen theme never flashes the other one. See src/theme.ts.
try {
  const chosen = localStorage.getItem('pulltrace.theme')
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen
} catch {
  // Storage can be forbidden; the system's theme is shown then.
}

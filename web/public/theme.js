// Runs before the first paint, so that the page never flashes in the other theme. See src/theme.ts.
try {
  const chosen = localStorage.getItem('pulltrace.theme')
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen
} catch {
  // Storage can be forbidden. In that case, the system's theme is shown.
}

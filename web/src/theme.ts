/** The chosen theme, or the system's theme if none was chosen. public/theme.js applies it before the first
 * paint. */
export type Theme = 'light' | 'dark'

const KEY = 'pulltrace.theme'

export function shownTheme(): Theme {
  const chosen = document.documentElement.dataset.theme
  if (chosen === 'light' || chosen === 'dark') return chosen
  return window.matchMedia('(prefers-color-scheme: light)').matches ? 'light' : 'dark'
}

/** If the user chooses the system's current theme, the page follows the system again. */
export function chooseTheme(theme: Theme): void {
  const root = document.documentElement
  delete root.dataset.theme
  const followsSystem = shownTheme() === theme
  if (!followsSystem) root.dataset.theme = theme
  try {
    if (followsSystem) localStorage.removeItem(KEY)
    else localStorage.setItem(KEY, theme)
  } catch {
    // If the browser blocks storage, the choice lasts only until the page is closed.
  }
}

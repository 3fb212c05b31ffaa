/** Elements that accept typed text. The chart's slider is an input, too, but does not accept text. */
const TAKES_TEXT = 'input:not([type=range]), textarea'

/** Whether a key press matches this shortcut. A key press with a modifier or in a text field is not a shortcut. */
export function isShortcut(event: KeyboardEvent, key: string): boolean {
  if (event.key !== key || event.ctrlKey || event.metaKey || event.altKey) return false
  return !(event.target instanceof HTMLElement && event.target.matches(TAKES_TEXT))
}

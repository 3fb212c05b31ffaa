/** Elements in which a key types a character. The slider of the chart is an input too, but takes no text. */
const TAKES_TEXT = 'input:not([type=range]), textarea'

/** Whether a key was pressed as a shortcut of the page: without a modifier, and not in a text field. */
export function isShortcut(event: KeyboardEvent, key: string): boolean {
  if (event.key !== key || event.ctrlKey || event.metaKey || event.altKey) return false
  return !(event.target instanceof HTMLElement && event.target.matches(TAKES_TEXT))
}

import { useEffect } from 'react'
import { isShortcut } from './isShortcut'

/** Calls the action when the key is pressed. Only the action from the first render is called, so it must not use
 * state. */
export function useShortcut(key: string, action: () => void): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (!isShortcut(event, key)) return
      event.preventDefault()
      action()
    }
    document.addEventListener('keydown', onKey)
    return () => document.removeEventListener('keydown', onKey)
  }, [])
}

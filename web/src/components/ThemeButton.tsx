import { useSyncExternalStore } from 'react'
import { chooseTheme, shownTheme } from '../theme'
import { Icon } from './Icon'
import styles from './ThemeButton.module.css'

const listeners = new Set<() => void>()

function subscribe(listener: () => void): () => void {
  const system = window.matchMedia('(prefers-color-scheme: light)')
  listeners.add(listener)
  system.addEventListener('change', listener)
  return () => {
    listeners.delete(listener)
    system.removeEventListener('change', listener)
  }
}

export function useTheme() {
  return useSyncExternalStore(subscribe, shownTheme)
}

export function ThemeButton() {
  const other = useTheme() === 'dark' ? 'light' : 'dark'
  const onClick = () => {
    chooseTheme(other)
    for (const listener of listeners) listener()
  }
  return (
    <button
      type="button"
      className={styles.theme}
      onClick={onClick}
      aria-label={`Show the ${other} theme`}
      title={`Show the ${other} theme`}
    >
      <Icon name="theme" size={18} />
    </button>
  )
}

import { useSyncExternalStore } from 'react'
import shared from '../styles/shared.module.css'
import { chooseTheme, shownTheme } from '../theme'
import { Icon } from './Icon'

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

function useTheme() {
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
      className={shared.round}
      onClick={onClick}
      aria-label={`Show the ${other} theme`}
      title={`Show the ${other} theme`}
    >
      <Icon name="theme" size={18} />
    </button>
  )
}

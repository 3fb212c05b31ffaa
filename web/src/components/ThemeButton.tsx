import { useEffect, useReducer } from 'react'
import shared from '../styles/shared.module.css'
import { chooseTheme, shownTheme } from '../theme'
import { Icon } from './Icon'

const SYSTEM = window.matchMedia('(prefers-color-scheme: light)')

export function ThemeButton() {
  const [, redraw] = useReducer((count: number) => count + 1, 0)
  useEffect(() => {
    SYSTEM.addEventListener('change', redraw)
    return () => SYSTEM.removeEventListener('change', redraw)
  }, [])
  const other = shownTheme() === 'dark' ? 'light' : 'dark'
  const onClick = () => {
    chooseTheme(other)
    redraw()
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

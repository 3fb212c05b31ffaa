// @vitest-environment happy-dom
import { afterEach, describe, expect, it } from 'vitest'
import { isShortcut } from './isShortcut'

afterEach(() => document.body.replaceChildren())

function pressedIn(html: string, change: KeyboardEventInit = {}): boolean {
  document.body.innerHTML = html
  let found = false
  const onKey = (event: KeyboardEvent) => {
    found = isShortcut(event, '/')
  }
  document.addEventListener('keydown', onKey)
  document.body.firstElementChild?.dispatchEvent(
    new KeyboardEvent('keydown', { key: '/', bubbles: true, ...change }),
  )
  document.removeEventListener('keydown', onKey)
  return found
}

describe('a shortcut', () => {
  it.each(['<input type="range">', '<select></select>', '<button></button>', '<a href="#"></a>', '<p></p>'])(
    'works in %s',
    html => {
      expect(pressedIn(html)).toBe(true)
    },
  )

  it.each(['<input>', '<input type="search">', '<textarea></textarea>'])('is ordinary text in %s', html => {
    expect(pressedIn(html)).toBe(false)
  })

  it('ignores other keys, and its own key with a modifier', () => {
    expect(pressedIn('<p></p>', { ctrlKey: true })).toBe(false)
    expect(pressedIn('<p></p>', { key: '?' })).toBe(false)
  })
})

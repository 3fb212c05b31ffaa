import { expect, it } from 'vitest'
import { MOST_OPEN, readUrl, toggleOpen, writeUrl } from './urlState'

it('the state survives a round trip through the URL', () => {
  const state = {
    view: 'images',
    query: 'ns:ml status:failed,done ünï&=#',
    sort: { column: 'size', descending: true },
    open: ['a.1', 'b.2'],
  } as const
  expect(readUrl(writeUrl(state))).toEqual(state)
})

it('the initial state has an empty query string', () => {
  expect(writeUrl(readUrl(''))).toBe('')
})

it('treats an invalid URL as the start page', () => {
  expect(readUrl('?view=secrets&sort=&open=,,')).toEqual({
    view: 'pulls',
    query: '',
    sort: undefined,
    open: [],
  })
})

it('keeps links readable', () => {
  expect(writeUrl({ ...readUrl(''), query: 'image:ghcr.io/a/b status:failed' })).toBe(
    '?q=image:ghcr.io/a/b%20status:failed',
  )
})

it('closes the row that has been open longest when too many rows are open', () => {
  const many = Array.from({ length: MOST_OPEN }, (_, n) => `${n}`)
  expect(toggleOpen(many, 'new')).toEqual([...many.slice(1), 'new'])
  expect(toggleOpen(['a', 'b'], 'a')).toEqual(['b'])
})

/** Decides which rows of a long list to render while the page scrolls, and where to place them. Rendered rows are
 * measured, because their heights vary. */
import { type RefCallback, useCallback, useLayoutEffect, useReducer, useRef, useState } from 'react'
import { offsetsOf, type Range, rowsBetween } from '../model/offsets'

interface Options {
  readonly keys: readonly string[]
  /** The assumed height of a row until a row of its kind has been measured. */
  readonly estimate: (index: number) => number
  /** Rows of the same kind have about the same height. */
  readonly kind: (index: number) => string
  /** The distance from the top of the page to the list. */
  readonly top: number
  /** The index of a row that is always rendered, such as the focused row. */
  readonly keep: number
}

export interface WindowRows {
  readonly indexes: readonly number[]
  readonly height: number
  /** The distance from the top of the list to a row. */
  readonly start: (index: number) => number
  /** The ref callback for each row's element, whose `data-row` contains the row's key. */
  readonly measure: RefCallback<HTMLElement>
  /** Scrolls only as far as necessary to show the row. */
  readonly scrollTo: (index: number) => void
}

/** The number of rows to render beyond each edge of the window, so that a short scroll shows only rows that have already
 * been rendered. */
const OVERSCAN = 6
/** The height of the sticky header, which covers the topmost rows in the window. */
const HEAD = 44

interface Scroll {
  readonly y: number
  readonly height: number
}

const currentScroll = (): Scroll => ({ y: window.scrollY, height: window.innerHeight })

export function useWindowRows({ keys, estimate, kind, top, keep }: Options): WindowRows {
  const [, redraw] = useReducer((count: number) => count + 1, 0)
  const heights = useRef(new Map<string, number>())
  // The position comes from the scroll event, because reading it on each render would force a layout.
  const scroll = useRef<Scroll>(currentScroll())
  const typical = new Map<string, number>()
  keys.forEach((key, index) => {
    const height = heights.current.get(key)
    if (height !== undefined && !typical.has(kind(index))) typical.set(kind(index), height)
  })
  const heightOf = (key: string, index: number) =>
    heights.current.get(key) ?? typical.get(kind(index)) ?? estimate(index)
  const offsets = offsetsOf(keys.map(heightOf))
  const range = visible(offsets, scroll.current, top)
  forget(heights.current, keys)
  const latest = useRef({ offsets, range, top, keys })
  latest.current = { offsets, range, top, keys }

  useLayoutEffect(() => {
    const onScroll = () => {
      scroll.current = currentScroll()
      const { offsets: known, range: drawn, top: above } = latest.current
      const wanted = visible(known, scroll.current, above)
      if (wanted.first !== drawn.first || wanted.end !== drawn.end) redraw()
    }
    window.addEventListener('scroll', onScroll, { passive: true })
    window.addEventListener('resize', onScroll)
    return () => {
      window.removeEventListener('scroll', onScroll)
      window.removeEventListener('resize', onScroll)
    }
  }, [])

  /** Stores a row's height and returns whether it has changed. If a row above the window grows or shrinks, the rows in
   * the window must not move. */
  const note = useCallback((element: HTMLElement, height: number): boolean => {
    const key = element.dataset.row ?? ''
    const { offsets: known, keys: present, top: above } = latest.current
    const index = present.indexOf(key)
    const before = heights.current.get(key) ?? (known[index + 1] ?? 0) - (known[index] ?? 0)
    heights.current.set(key, height)
    if (index < 0 || Math.abs(height - before) < 0.5) return false
    if ((known[index + 1] ?? 0) + above < scroll.current.y) window.scrollBy(0, height - before)
    return true
  }, [])

  const [observer] = useState(
    () =>
      new ResizeObserver(entries => {
        const changed = entries.filter(({ target, borderBoxSize: [box] }) => {
          return target.isConnected && box !== undefined && note(target as HTMLElement, box.blockSize)
        })
        if (changed.length > 0) redraw()
      }),
  )
  const fresh = useRef(new Set<HTMLElement>())
  const measure = useCallback(
    (element: HTMLElement | null) => {
      if (element === null) return undefined
      fresh.current.add(element)
      observer.observe(element)
      return () => observer.unobserve(element)
    },
    [observer],
  )

  // New rows are measured before they are painted.
  useLayoutEffect(() => {
    const found = [...fresh.current].filter(({ isConnected }) => isConnected)
    fresh.current.clear()
    const changed = found.filter(element => note(element, element.getBoundingClientRect().height))
    if (changed.length > 0) redraw()
  })

  const scrollTo = (index: number) => {
    const [start, end] = [(offsets[index] ?? 0) + top, (offsets[index + 1] ?? 0) + top]
    const { y, height } = currentScroll()
    if (start - HEAD < y) window.scrollTo({ top: start - HEAD })
    else if (end > y + height) window.scrollTo({ top: end - height })
  }

  const indexes = Array.from({ length: range.end - range.first }, (_, step) => range.first + step)
  if (keep >= 0 && keep < keys.length && !indexes.includes(keep)) indexes.push(keep)
  return {
    indexes: indexes.sort((a, b) => a - b),
    height: offsets.at(-1) ?? 0,
    start: index => offsets[index] ?? 0,
    measure,
    scrollTo,
  }
}

function visible(offsets: readonly number[], { y, height }: Scroll, top: number): Range {
  return rowsBetween(offsets, y - top, y - top + height, OVERSCAN)
}

const MOST_FORGOTTEN = 1000

/** Drops the heights of rows that no longer exist, which would otherwise accumulate on a page left open for days. */
function forget(heights: Map<string, number>, keys: readonly string[]): void {
  if (heights.size <= keys.length + MOST_FORGOTTEN) return
  const present = new Set(keys)
  for (const key of heights.keys()) if (!present.has(key)) heights.delete(key)
}

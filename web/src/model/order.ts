/** Sorts rows by the column in the URL. */
import type { Sort } from '../url/urlState'

export type Compare<T> = (a: T, b: T) => number
export type Order<T> = Readonly<Record<string, Compare<T>>>

/** Compares rows by a numeric value. Rows without a number come last in both sort directions: their difference is
 * infinite, and infinite differences are not reversed. */
export function byFigure<T>(figure: (row: T) => number | undefined): Compare<T> {
  return (a, b) => {
    const [x, y] = [figure(a), figure(b)]
    if (x === y) return 0
    return x === undefined ? Infinity : y === undefined ? -Infinity : x - y
  }
}

export function median(figures: readonly number[]): number | undefined {
  const sorted = [...figures].sort((a, b) => a - b)
  const middle = sorted.length / 2
  const [a, b] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]]
  return a === undefined || b === undefined ? undefined : (a + b) / 2
}

export function byText<T>(text: (row: T) => string): Compare<T> {
  return (a, b) => text(a).localeCompare(text(b), 'en', { numeric: true })
}

/** Returns the function that compares two rows by the given column. The column's name comes from the URL, so it can be
 * any text, even `__proto__`. */
export function compareOf<T>(order: Order<T>, column: string): Compare<T> | undefined {
  return Object.hasOwn(order, column) ? order[column] : undefined
}

export function ordered<T>(rows: T[], sort: Sort | undefined, order: Order<T>, natural: Compare<T>): T[] {
  const compare = sort === undefined ? undefined : compareOf(order, sort.column)
  if (compare === undefined) return rows.sort(natural)
  const direction = sort?.descending === true ? -1 : 1
  return rows.sort((a, b) => {
    const found = compare(a, b)
    return (Number.isFinite(found) ? found * direction : found) || natural(a, b)
  })
}

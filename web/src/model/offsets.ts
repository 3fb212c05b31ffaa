/** The positions of the rows of a long list, calculated from their heights. */

/** The distance of each row from the top; the last entry is the total height. */
export function offsetsOf(heights: readonly number[]): readonly number[] {
  const offsets = [0]
  let sum = 0
  for (const height of heights) {
    sum += height
    offsets.push(sum)
  }
  return offsets
}

export interface Range {
  readonly first: number
  /** One more than the index of the last row. */
  readonly end: number
}

/** The rows between two vertical offsets, plus `more` rows on each side. */
export function rowsBetween(offsets: readonly number[], from: number, to: number, more: number): Range {
  const count = offsets.length - 1
  const first = Math.max(0, rowAt(offsets, from) - more)
  return { first, end: Math.min(count, rowAt(offsets, to) + 1 + more) }
}

/** Finds the row at the given distance from the top, using binary search. */
function rowAt(offsets: readonly number[], distance: number): number {
  let [low, high] = [0, Math.max(0, offsets.length - 2)]
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if ((offsets[middle] ?? 0) <= distance) low = middle
    else high = middle - 1
  }
  return low
}

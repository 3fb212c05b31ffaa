import { expect, it } from 'vitest'
import { offsetsOf, rowsBetween } from './offsets'

const offsets = offsetsOf([10, 10, 30, 10])

it('adds up heights', () => {
  expect(offsets).toEqual([0, 10, 20, 50, 60])
  expect(offsetsOf([])).toEqual([0])
})

it.each([
  [0, 5, { first: 0, end: 1 }],
  [12, 25, { first: 1, end: 3 }],
  [20, 49, { first: 2, end: 3 }],
  [-100, -1, { first: 0, end: 1 }],
  [500, 900, { first: 3, end: 4 }],
])('finds the rows between %d and %d', (from, to, range) => {
  expect(rowsBetween(offsets, from, to, 0)).toEqual(range)
})

it('includes additional rows on each side if there are any', () => {
  expect(rowsBetween(offsets, 20, 30, 1)).toEqual({ first: 1, end: 4 })
  expect(rowsBetween(offsets, 20, 30, 9)).toEqual({ first: 0, end: 4 })
  expect(rowsBetween(offsetsOf([]), 0, 100, 9)).toEqual({ first: 0, end: 0 })
})

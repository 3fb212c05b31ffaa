import { expect, it } from 'vitest'
import { aContext, aPull, T0 } from '../testing'
import { medianRate } from './nodeRows'

const { now } = aContext([])

it('rates a node by its completed pulls and its live ones', () => {
  const done = aPull({ status: 'completed', downloadedBytes: 100e6, completedAt: T0 + 10_000 })
  const live = aPull({ id: 'b', downloadedBytes: 60e6 })
  expect(medianRate([live], now)).toBe(1e6)
  expect(medianRate([done, live, { ...done, id: 'c' }], now)).toBe(10e6)
})

it('has no rate without a byte, and none from failed pulls', () => {
  expect(medianRate([aPull()], now)).toBeUndefined()
  expect(
    medianRate([aPull({ status: 'failed', downloadedBytes: 5, completedAt: T0 + 1 })], now),
  ).toBeUndefined()
})

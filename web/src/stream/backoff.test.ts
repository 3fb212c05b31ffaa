import { expect, it } from 'vitest'
import { backoff } from './backoff'

it('the delay doubles up to half a minute', () => {
  expect([1, 2, 3, 4, 5, 6, 60].map(n => backoff(n, () => 1))).toEqual([
    1000, 2000, 4000, 8000, 16_000, 30_000, 30_000,
  ])
})

it('the random part is at most half of the delay', () => {
  expect(backoff(3, () => 0)).toBe(2000)
  expect(backoff(3, () => 0.5)).toBe(3000)
})

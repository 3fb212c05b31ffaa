import { expect, it } from 'vitest'
import { aPull, T0 } from './testing'
import { ratesByRegistry, type Sample, series, stack, total, WINDOW_MS, withSample } from './throughput'

const sample = (at: number, rates?: Record<string, number>): Sample => ({
  at: T0 + at,
  rates: rates && new Map(Object.entries(rates)),
})

it('adds up what unfinished pulls fetch, by registry', () => {
  const rates = ratesByRegistry([
    aPull({ bytesPerSec: 5 }),
    aPull({ bytesPerSec: 7 }),
    aPull({ bytesPerSec: 9, status: 'completed' }),
    aPull({ imageRef: '__pulling__', registry: 'quay.io', bytesPerSec: 1 }),
  ])
  expect([...rates]).toEqual([
    ['docker.io', 12],
    ['quay.io', 1],
  ])
  expect(total(rates)).toBe(13)
})

it('forgets what is older than the window, for a day open must not grow', () => {
  let samples: readonly Sample[] = []
  for (let second = 0; second < 2000; second += 1)
    samples = withSample(samples, sample(second * 1000, { a: 1 }))
  expect(samples.length).toBeLessThanOrEqual(WINDOW_MS / 1000 + 1)
})

it('shows the busiest registries and the rest together', () => {
  const rates = { a: 60, b: 50, c: 40, d: 30, e: 20, f: 10 }
  const lines = series([sample(0, rates)])
  expect(lines.map(({ registry, now }) => [registry, now])).toEqual([
    ['a', 60],
    ['b', 50],
    ['c', 40],
    ['d', 30],
    ['others', 30],
  ])
})

it('stacks the lines and leaves gaps open', () => {
  const lines = series([sample(0, { a: 5, b: 3 }), sample(1000), sample(2000, { a: 1 })])
  expect(stack(lines)).toEqual([
    [5, null, 1],
    [8, null, 1],
  ])
})

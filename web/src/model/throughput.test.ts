import { expect, it } from 'vitest'
import { aPull, T0 } from '../testing'
import {
  areas,
  ratesByRegistry,
  type Sample,
  series,
  stack,
  total,
  WINDOW_MS,
  withHistory,
  withSample,
} from './throughput'

const sample = (at: number, rates?: Record<string, number>): Sample => ({
  at: T0 + at,
  rates: rates && new Map(Object.entries(rates)),
})

it('adds up the speeds of live pulls by registry', () => {
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

it('drops samples older than the window, so that a page open for a day does not grow', () => {
  let samples: readonly Sample[] = []
  for (let second = 0; second < 2000; second += 1)
    samples = withSample(samples, sample(second * 1000, { a: 1 }))
  expect(samples.length).toBeLessThanOrEqual(WINDOW_MS / 1000 + 1)
})

it('shows the busiest registries, and the rest together', () => {
  const rates = { f: 60, b: 50, c: 40, d: 30, e: 20, a: 10, g: 5 }
  const lines = series([sample(0, rates)])
  expect(lines.map(({ registry, now }) => [registry, now])).toEqual([
    ['b', 50],
    ['c', 40],
    ['d', 30],
    ['e', 20],
    ['f', 60],
    ['other', 15],
  ])
})

it('stacks the lines and leaves gaps open', () => {
  const lines = series([sample(0, { a: 5, b: 3 }), sample(1000), sample(2000, { a: 1 })])
  expect(stack(lines)).toEqual([
    [5, null, 1],
    [8, null, 1],
  ])
})

it('does not put a busy registry into "other"', () => {
  const idle = { b: 90, c: 90, d: 90, e: 90, f: 90, g: 90 }
  const lines = series([sample(0, idle), sample(1000, { z: 5 })])
  expect(lines.map(({ registry }) => registry)).toContain('z')
})

it('puts the server’s history before its own samples', () => {
  const history = {
    since: T0 - 30_000,
    stepMs: 10_000,
    registries: [{ registry: 'a', bytesPerSec: [1, 0, 3, 4] }],
  }
  const found = withHistory([sample(-5000), sample(-4000, { a: 9 })], history, T0)
  expect(found.map(({ at, rates }) => [(at - T0) / 1000, rates?.get('a')])).toEqual([
    [-30, 1],
    [-20, undefined],
    [-10, 3],
    [-4, 9],
  ])
})

it('drops history older than the window, and accepts history without registries', () => {
  const registries = [{ registry: 'a', bytesPerSec: [1, 2] }]
  const old = { since: T0 - WINDOW_MS - 15_000, stepMs: 10_000, registries }
  expect(withHistory([], old, T0)).toEqual([])
  expect(withHistory([], { ...old, registries: [] }, T0)).toEqual([])
})

it('draws one closed path for each line, in parts around a gap', () => {
  const samples = [
    sample(0, { a: 1e6 }),
    sample(30_000, { a: 2e6 }),
    sample(45_000),
    sample(60_000, { a: 1e6 }),
  ]
  const [path = '', ...others] = areas(samples, series(samples))
  expect(others).toEqual([])
  expect(path.match(/M/g)).toHaveLength(2)
  expect(path).toMatch(/^M0\.0 54\.5L500\.0 9\.1L500\.0 100\.0L0\.0 100\.0ZM1000\.0/)
})

it('draws nothing without samples', () => {
  expect(areas([], [])).toEqual([])
})

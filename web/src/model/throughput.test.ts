import { describe, expect, it } from 'vitest'
import { anAttempt, aPull, T0 } from '../testing'
import type { Pull } from '../wire/wire'
import { timeOfDay } from './format'
import { linkTime } from './query'
import {
  areas,
  axis,
  downloadedBy,
  happened,
  highest,
  marks,
  marksNear,
  periodWords,
  ratesByRegistry,
  reading,
  type Sample,
  scaleMark,
  series,
  stack,
  total,
  WINDOW_MS,
  withHistory,
  withSample,
  wordsOf,
} from './throughput'

const sample = (at: number, rates?: Record<string, number>): Sample => ({
  at: T0 + at,
  rates: rates && new Map(Object.entries(rates)),
})

const COUNTS = { completed: 12, failed: 1, canceled: 0, downloadedBytes: 4.2e9 }

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

it('drops samples that are older than the window, so that a page left open for a day does not grow', () => {
  let samples: readonly Sample[] = []
  for (let second = 0; second < 2000; second += 1)
    samples = withSample(samples, sample(second * 1000, { a: 1 }))
  expect(samples.length).toBeLessThanOrEqual(WINDOW_MS / 1000 + 1)
})

it('shows the first registries separately, and the rest together', () => {
  const rates = Object.fromEntries([...'mblcdefghijkan'].map((registry, at) => [registry, 100 - at]))
  const lines = series([sample(0, rates)])
  expect(lines.map(({ registry, now }) => [registry, now])).toEqual([
    ['b', 99],
    ['c', 97],
    ['d', 96],
    ['e', 95],
    ['f', 94],
    ['g', 93],
    ['h', 92],
    ['i', 91],
    ['j', 90],
    ['k', 89],
    ['l', 98],
    ['m', 100],
    ['other', 88 + 87],
  ])
})

it('stacks the lines and leaves gaps open', () => {
  const lines = series([sample(0, { a: 5, b: 3 }), sample(1000), sample(2000, { a: 1 })])
  expect(stack(lines)).toEqual([
    [5, null, 1],
    [8, null, 1],
  ])
})

it('a registry keeps its band when others become faster', () => {
  const first = Object.fromEntries([...'bcdefghijklm'].map(registry => [registry, 1]))
  const later = Object.fromEntries([...'uvwxyz'].map(registry => [registry, 500]))
  const names = series([sample(0, first), sample(1000, later)]).map(({ registry }) => registry)
  expect(names).toEqual([...Object.keys(first), 'other'])
})

it('marks a round number near the top of the scale', () => {
  const tops = [1.1e6, 99e6, 420e6, 5e9]
  expect(tops.map(scaleMark)).toEqual([1e6, 90e6, 400e6, 5e9])
  expect(highest(series([sample(0, { a: 30e6, b: 20e6 })]))).toBeCloseTo(55e6)
  expect(highest([])).toBeCloseTo(1.1e6)
})

it('puts the server’s history before the page’s own samples', () => {
  const history = {
    since: T0 - 30_000,
    stepMs: 10_000,
    registries: [{ registry: 'a', bytesPerSec: [1, 0, 3, 4] }],
    ...COUNTS,
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
  const old = { since: T0 - WINDOW_MS - 15_000, stepMs: 10_000, registries, ...COUNTS }
  expect(withHistory([], old, T0)).toEqual([])
  expect(withHistory([], { ...old, registries: [] }, T0)).toEqual([])
})

it('draws one closed path per line, in several parts if there is a gap', () => {
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

it('returns the rates in the sample that covers a position, sorted from the fastest to the slowest registry', () => {
  const samples = [sample(0, { a: 1 }), sample(300_000), sample(600_000, { a: 2, b: 3 })]
  expect(reading(samples, 0)).toEqual({ at: T0, rates: [['a', 1]] })
  expect(reading(samples, 0.45)?.at).toBe(T0)
  expect(reading(samples, 0.95)).toEqual({ at: T0 + 300_000, rates: undefined })
  expect(reading(samples, 1)?.rates).toEqual([
    ['b', 3],
    ['a', 2],
  ])
  expect(reading([], 1)).toBeUndefined()
})

it('adds up the bytes of the registries that share a line', () => {
  const rates = Object.fromEntries([...'abcdefghijklmn'].map(registry => [registry, 1]))
  const line = (registry: string, downloadedBytes?: number) => ({
    registry,
    bytesPerSec: [],
    downloadedBytes,
  })
  const registries = [line('a', 5), line('b', 0), line('m', 1), line('n', 2), line('new', 3), line('old')]
  const history = { since: T0, stepMs: 5000, registries, ...COUNTS }
  const lines = series([sample(0, rates)])
  expect([...downloadedBy(lines, history)]).toEqual([
    ['a', 5],
    ['other', 6],
  ])
  expect(downloadedBy(lines, undefined).size).toBe(0)
})

it('states the start of a history that does not cover ten minutes yet', () => {
  const words = [1.8, 9.4, 9.6, 10.2].map(minutes => periodWords(T0, T0 + minutes * 60_000))
  expect(words).toEqual([`since ${timeOfDay(T0)}`, `since ${timeOfDay(T0)}`, 'last 10 min', 'last 10 min'])
})

it('the chart covers at least a minute', () => {
  expect(axis([sample(0), sample(30_000)])).toEqual([T0 - 30_000, T0 + 30_000])
  expect(axis([sample(0), sample(90_000)])).toEqual([T0, T0 + 90_000])
})

it('describes what happened, during which period, and how many pulls the list of it shows', () => {
  const history = { since: T0, stepMs: 5000, registries: [], ...COUNTS }
  const period = (change: object, listed: Readonly<Record<string, number>> = { failed: 1 }) =>
    happened({ ...history, ...change }, T0 + WINDOW_MS, query => listed[query.split(/[: ]/)[1] ?? ''] ?? 0)
  const since = `since:${linkTime(T0)}`
  expect(period({})).toEqual({
    words: 'last 10 min',
    happenings: [
      { words: '12 pulls completed', query: `status:done ${since}` },
      { words: '1 attempt failed', query: `status:failed ${since}` },
      { words: '4.2 GB downloaded' },
    ],
  })
  expect(
    period({ completed: 1, failed: 60, canceled: 3 }, { failed: 3, cancelled: 3 })?.happenings.slice(0, 3),
  ).toEqual([
    { words: '1 pull completed', query: `status:done ${since}` },
    { words: '60 attempts failed (3 pulls listed)', query: `status:failed ${since}` },
    { words: '3 attempts cancelled', query: `status:cancelled ${since}` },
  ])
  expect(period({ failed: 2 }, {})?.happenings[1]?.words).toBe('2 attempts failed (none listed)')
  expect(period({ completed: 12 }, { done: 13 })?.happenings[0]?.words).toBe('13 pulls completed')
  // A pull that ended after the counts were fetched is already in the list.
  expect(period({ canceled: 2 }, { cancelled: 3 })?.happenings[2]?.words).toBe('3 attempts cancelled')
  expect(period({ downloadedBytes: 0 })?.happenings.at(-1)?.words).toBe('1 attempt failed')
  expect(period({ completed: undefined })).toBeUndefined()
  expect(happened(undefined, T0, () => 0)).toBeUndefined()
})

describe('the chart’s marks', () => {
  const failed = (nodeName: string, seconds: number, errorReason: Pull['errorReason'] = 'not_found') =>
    aPull({ nodeName, status: 'failed', errorReason, completedAt: T0 + seconds * 1000 })
  const period = [T0, T0 + 600_000] as const

  it('combine the attempts that failed or were cancelled at about the same time', () => {
    const pulls = [failed('n1', 60), failed('n2', 61, 'canceled'), failed('n3', 300, 'canceled')]
    expect(marks(pulls, period)).toEqual([
      {
        place: 12,
        at: T0 + 60_000,
        look: 'failed',
        words: ['library/nginx:1.27 on n1: not found', 'library/nginx:1.27 on n2: cancelled'],
      },
      { place: 60, at: T0 + 300_000, look: 'cancelled', words: ['library/nginx:1.27 on n3: cancelled'] },
    ])
  })

  it('include earlier attempts, but nothing outside the period', () => {
    const retried = aPull({
      earlier: [anAttempt({ completedAt: T0 + 5000 }), anAttempt({ completedAt: T0 - 1 })],
    })
    expect(marks([retried, failed('n2', 601), aPull()], period).map(({ place }) => place)).toEqual([1])
  })

  it('are described at and next to their place, as far as there is room', () => {
    const all = marks(
      Array.from({ length: 6 }, (_, n) => failed(`n${n}`, 60)),
      period,
    )
    expect(marksNear(all, 14)).toEqual([])
    expect(wordsOf(marksNear(all, 13))).toHaveLength(5)
    expect(wordsOf(marksNear(all, 11)).at(-1)).toBe('and 2 more')
  })
})

import { describe, expect, it } from 'vitest'
import { aContext, anAttempt, aPod, aPull, T0 } from '../testing'
import type { Pull } from '../wire/wire'
import { isGroupKey } from './failureGroups'
import { isRestless, pullRows, searchPulls } from './pullRows'
import { parseQuery } from './query'

const at = (id: string, change: Partial<Pull> = {}) => aPull({ id, nodeName: `on-${id}`, ...change })
const pulls = [
  at('done', { status: 'completed', completedAt: T0 + 9000 }),
  at('old', { bytesPerSec: 5, nodeName: 'worker-2' }),
  at('new', { startedAt: T0 + 5000, bytesPerSec: 9, nodeName: 'worker-10' }),
  at('queued', { status: 'queued', nodeName: 'worker-9' }),
  at('failed', { status: 'failed', errorReason: 'tls', completedAt: T0 + 500, pods: [aPod('p')] }),
  at('stalled', { stalledSince: T0 }),
  at('wanted', { pods: [aPod('q')] }),
  at('forgotten', { status: 'failed', errorReason: 'network', completedAt: T0 + 100 }),
  at('cancelled', { status: 'failed', errorReason: 'canceled', completedAt: T0 + 9500 }),
]
const waiting = ['shop/p', 'shop/q']

interface Change {
  readonly sort?: string
  readonly query?: string
  readonly open?: readonly string[]
  readonly of?: readonly Pull[]
}
function rows({ sort, query = '', open = [], of = pulls }: Change = {}) {
  const order =
    sort === undefined ? undefined : { column: sort.replace('-', ''), descending: sort.startsWith('-') }
  return pullRows(of, { query: parseQuery(query), sort: order, open }, aContext(of, waiting))
}
const keys = (change?: Change) => rows(change).map(({ key }) => key)

it('lists live pulls first (led by those that a pod is waiting for), then failures, the queue and history', () => {
  expect(keys()).toEqual([
    'stalled',
    'wanted',
    'new',
    'old',
    'failed',
    'queued',
    'cancelled',
    'done',
    'forgotten',
  ])
})

it('sorts by a column in both directions, and compares numbers in names by their value', () => {
  expect(keys({ sort: '-speed' }).slice(0, 2)).toEqual(['new', 'old'])
  const average = at('average', { status: 'completed', downloadedBytes: 700, completedAt: T0 + 10_000 })
  expect(keys({ sort: '-speed', of: [...pulls, average] }).slice(0, 2)).toEqual(['new', 'old'])
  expect(keys({ sort: 'node' }).slice(-3)).toEqual(['old', 'queued', 'new'])
  expect(keys({ sort: '-node' }).slice(0, 3)).toEqual(['new', 'queued', 'old'])
})

it('sorts unknown times and finished pulls last in both directions', () => {
  const of = [
    at('unknown'),
    at('slow', { etaSeconds: 90 }),
    at('fast', { etaSeconds: 3 }),
    at('ended', { status: 'completed', completedAt: T0 }),
  ]
  expect(keys({ of, sort: 'left' })).toEqual(['fast', 'slow', 'unknown', 'ended'])
  expect(keys({ of, sort: '-left' })).toEqual(['slow', 'fast', 'unknown', 'ended'])
})

it('sorts queued pulls by the time until they are expected to be ready', () => {
  const queued = (id: string, startedAt: number, usualSeconds?: number) =>
    at(id, {
      status: 'queued',
      nodeName: 'n',
      startedAt,
      ...(usualSeconds !== undefined && { usualSeconds }),
    })
  const of = [
    at('running', { nodeName: 'n', etaSeconds: 10, updatedAt: T0 }),
    queued('first', T0 + 1, 60),
    queued('second', T0 + 2, 5),
    queued('bound', T0 + 3),
    at('other', { etaSeconds: 62 }),
    at('unknown', { nodeName: 'm' }),
    at('alone', { nodeName: 'm', status: 'queued', startedAt: T0 + 4 }),
  ]
  expect(keys({ of, sort: 'left' })).toEqual([
    'running',
    'first',
    'other',
    'second',
    'bound',
    'unknown',
    'alone',
  ])
})

it.each(['colour', '__proto__', 'constructor', 'valueOf', 'hasOwnProperty', 'toString'])(
  'keeps the default order for the unknown column %s',
  column => {
    expect(keys({ sort: column })).toEqual(keys())
  },
)

it.each([
  ['status:failing', ['failed']],
  ['status:failed', ['failed', 'forgotten']],
  ['status:cancelled', ['cancelled']],
  ['status:queued,stalled', ['stalled', 'queued']],
])('finds %s', (query, found) => {
  expect(keys({ query })).toEqual(found)
})

describe('failures of one image with one cause', () => {
  const failing = (id: string, change: Partial<Pull> = {}) =>
    at(id, { status: 'failed', errorReason: 'not_found', completedAt: T0, pods: [aPod('p')], ...change })
  const of = [failing('b'), failing('a'), failing('c', { completedAt: T0 + 5000 })]
  const key = 'failed/docker.io/library/nginx:1.27/not_found'

  it('failures with the same cause share a row', () => {
    const [row, ...others] = rows({ of })
    expect(others).toEqual([])
    expect(row).toMatchObject({ key, ids: ['a', 'b', 'c'], waiters: 1, standing: 'failing' })
  })

  it('failures that a pod waits for and other failures have separate rows', () => {
    const old = { pods: [], errorReason: 'not_found' } as const
    expect(keys({ of: [...of, failing('x', old), failing('y', old)] })).toEqual([key, `${key}/past`])
  })

  it('failures keep their row while one of them is retried', () => {
    const retry = failing('a', {
      status: 'resolving',
      attempt: 2,
      errorReason: undefined,
      earlier: [anAttempt()],
    })
    const [row, ...others] = rows({ of: [...of.filter(({ id }) => id !== 'a'), retry] })
    expect(others).toEqual([])
    expect(row).toMatchObject({ key, ids: ['a', 'b', 'c'] })
  })

  it('failures keep their row while one of them is queued for a retry', () => {
    const change = { status: 'queued', attempt: 2, errorReason: undefined, failingSince: T0 } as const
    const retry = failing('a', { ...change, earlier: [anAttempt()] })
    const [row, ...others] = rows({ of: [...of.filter(({ id }) => id !== 'a'), retry] })
    expect(others).toEqual([])
    expect(row).toMatchObject({ key, ids: ['a', 'b', 'c'], place: undefined })
  })

  it('failures have separate rows when one of them is open, or when the table is sorted by a column', () => {
    expect(keys({ of, open: ['b'] }).sort()).toEqual(['b', key])
    expect(keys({ of, sort: 'node' })).toEqual(['a', 'b', 'c'])
  })

  it('a group of failures keeps its open row when only one failure is left', () => {
    expect(keys({ of: of.slice(0, 1), open: [key] })).toEqual([key])
  })

  it('failures of many images from one registry share a row, but those of a few images do not', () => {
    const many = [1, 2, 3, 4].map(n =>
      failing(`i${n}`, { imageRef: `r.io/i${n}:1`, errorReason: 'timeout', nodeName: `n${n % 2}` }),
    )
    expect(keys({ of: many })).toEqual(['failed/r.io/timeout'])
    expect(keys({ of: many.slice(1) })).toHaveLength(3)
    const missing = many.map(pull => ({ ...pull, errorReason: 'not_found' }) as const)
    expect(keys({ of: missing })).toHaveLength(4)
  })
})

it('keeps the order of failures regardless of their times', () => {
  const one = at('one', { status: 'failed', errorReason: 'tls', imageRef: 'r/a:1', pods: [aPod('p')] })
  const two = at('two', { status: 'failed', errorReason: 'tls', imageRef: 'r/b:1', pods: [aPod('p')] })
  const order = (first: number, second: number) =>
    keys({
      of: [
        { ...one, completedAt: first },
        { ...two, completedAt: second },
      ],
    })
  expect(order(T0, T0 + 1)).toEqual(order(T0 + 1, T0))
})

describe('a row whose image is tried again', () => {
  const failing = (id: string, change: Partial<Pull> = {}) =>
    at(id, { status: 'failed', errorReason: 'tls', imageRef: `r/${id}:1`, pods: [aPod('p')], ...change })
  const others = [failing('a'), failing('c')]
  const again = (change: Partial<Pull>) => {
    const earlier = [anAttempt({ errorReason: 'tls' })]
    return failing('b', { errorReason: undefined, attempt: 2, earlier, failingSince: T0, ...change })
  }
  const bound = (by: 'unknown' | 'queue') => ({ by, why: '', figures: {} })

  it.each([
    ['is resolving', again({ status: 'resolving' })],
    ['is about to start', again({ status: 'queued', bound: bound('unknown') })],
    ['is queued', again({ status: 'queued', bound: bound('queue') })],
  ])('keeps its place while the attempt %s', (_, retry) => {
    const of = [...others, retry]
    expect(keys({ of })).toEqual(['a', 'b', 'c'])
    expect(keys({ of, query: 'status:failing' })).toEqual(['a', 'b', 'c'])
  })

  it('moves up once a byte arrives', () => {
    const retry = again({ status: 'downloading', downloadedBytes: 5 })
    expect(keys({ of: [...others, retry] })).toEqual(['b', 'a', 'c'])
  })
})

it('lists a queued retry after a cancelled attempt at its place in the queue', () => {
  const queued = (id: string, attempt: number, startedAt: number) =>
    at(id, { status: 'queued', attempt, startedAt, nodeName: 'n' })
  const of = [queued('third', 2, T0 + 3), queued('first', 1, T0 + 1), queued('second', 4, T0 + 2)]
  expect(rows({ of }).map(({ key, place }) => [key, place?.position])).toEqual([
    ['first', 1],
    ['second', 2],
    ['third', 3],
  ])
})

it('lists the oldest pull in the queue first', () => {
  const queued = (id: string, startedAt: number) => at(id, { status: 'queued', startedAt, nodeName: 'n' })
  const of = [queued('second', T0 + 2), queued('first', T0 + 1), at('active', { nodeName: 'n' })]
  expect(rows({ of }).map(({ key, place }) => [key, place?.position])).toEqual([
    ['active', undefined],
    ['first', 1],
    ['second', 2],
  ])
})

it('lists all queued pulls of a node together, including those that no pod is waiting for', () => {
  const queued = (id: string, nodeName: string, startedAt: number, change: Partial<Pull> = {}) =>
    at(id, { status: 'queued', startedAt, nodeName, ...change })
  const of = [
    queued('b2', 'n2', T0 + 4, { pods: [aPod('p')] }),
    queued('a1', 'n1', T0 + 3),
    queued('b1', 'n2', T0 + 1),
    queued('c1', 'n10', T0),
  ]
  expect(keys({ of })).toEqual(['a1', 'b1', 'b2', 'c1'])
})

it('finds only pulls that the server calls slow', () => {
  const of = [
    at('judged', { slowerThanUsual: 2, usualSeconds: 10 }),
    at('expected', { usualSeconds: 30, etaSeconds: 60 }),
    at('usual', { usualSeconds: 80, etaSeconds: 30 }),
  ]
  expect(keys({ of, query: 'status:slow' })).toEqual(['judged'])
})

const done = (id: string, completedAt: number, change: Partial<Pull> = {}) =>
  at(id, { status: 'completed', nodeName: 'n', completedAt, ...change })

it('a finished pull keeps its position in the list when its end time becomes more precise', () => {
  const order = (end: number) =>
    rows({ of: [done('a', end), done('b', T0 + 700, { nodeName: 'm' })] }).map(({ key }) => key)
  expect(order(T0)).toEqual(order(T0 + 900))
})

it('the completed pulls of an image on a node share a row', () => {
  const of = [done('a', T0), done('b', T0 + 5000), done('c', T0 + 2000, { nodeName: 'm' })]
  const key = 'done/n/docker.io/library/nginx:1.27'
  expect(rows({ of }).map(row => [row.key, row.ids])).toEqual([
    [key, ['b', 'a']],
    ['c', ['c']],
  ])
  expect(keys({ of, open: ['a'] })).toEqual(['b', 'c', 'a'])
  expect(keys({ of, sort: 'node' })).toEqual(['c', 'b', 'a'])
  expect(isGroupKey(key)).toBe(true)
})

it('knows which columns contain constantly changing figures', () => {
  expect(isRestless({ column: 'speed', descending: true })).toBe(true)
  expect(isRestless({ column: 'node', descending: true })).toBe(false)
  expect(isRestless(undefined)).toBe(false)
})

it('a search finds a cancelled attempt even after it was retried', () => {
  const retried = aPull({ attempt: 2, earlier: [anAttempt({ errorReason: 'canceled' })] })
  const failed = aPull({ attempt: 2, earlier: [anAttempt()] })
  const both = [retried, failed]
  const found = (text: string) => searchPulls(both, text, aContext(both))
  expect(found('status:cancelled')).toEqual([retried])
  expect(found('status:cancelled since:5m')).toEqual([retried])
  expect(found('status:failed')).toEqual([failed])
  const later = aContext(both, undefined, T0 + 600_000)
  expect(searchPulls(both, 'status:cancelled since:5m', later)).toEqual([])
})

it('the list of a period has a row for each pull, so that it has as many rows as its link promises', () => {
  const done = { status: 'completed', completedAt: T0 + 1000 } as const
  const pulls = [aPull({ id: 'a', ...done }), aPull({ id: 'b', ...done })]
  const rows = (text: string) =>
    pullRows(pulls, { query: parseQuery(text, T0), sort: undefined, open: [] }, aContext(pulls)).length
  expect([rows(''), rows('since:5m'), rows('at:0m')]).toEqual([1, 2, 2])
})

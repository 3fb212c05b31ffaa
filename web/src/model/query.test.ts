import { describe, expect, it } from 'vitest'
import { aContext, anAttempt, aPod, aPull, T0 } from '../testing'
import type { Pull } from '../wire/wire'
import { secondOfDay } from './format'
import { pullFacts as factsOf } from './pullRows'
import {
  type Known,
  linkTime,
  matches,
  parseQuery,
  STATUS_WORDS,
  suggest,
  toggleValue,
  withLinkTimes,
  withoutPullFilters,
  withValues,
} from './query'

const pod = aPod('trainer-0', { namespace: 'ml' })
const pull = aPull({ imageRef: 'nvcr.io/nvidia/pytorch:24.05-py3', nodeName: 'gpu-03', pods: [pod] })
const pullFacts = (one: Pull) => factsOf(one, aContext([one]))
const fits = (text: string, facts = pullFacts(pull)) => matches(parseQuery(text), facts)

describe('a search', () => {
  it.each([
    '',
    'pytorch',
    'PyTorch gpu',
    'image:torch',
    'ns:ml status:failed,downloading',
    'NODE:GPU-03',
    'registry:nvcr pod:trainer',
  ])('finds the pull with %j', text => expect(fits(text)).toBe(true))

  it('finds a pull by its limiting factor', () => {
    const slow = pullFacts(aPull({ bound: { by: 'rate_limit', why: '', figures: {} } }))
    expect(fits('limit:rate_limit', slow)).toBe(true)
    expect(fits('limit:disk', slow)).toBe(false)
    const unknown = pullFacts(aPull({ bound: { by: 'unknown', why: '', figures: {} } }))
    expect(fits('limit:unknown', unknown)).toBe(false)
  })

  it.each(['nginx', 'pytorch worker', 'ns:shop', 'status:failed', 'status:down', 'ns:ml node:worker'])(
    'does not find the pull with %j',
    text => expect(fits(text)).toBe(false),
  )

  it('finds the attempts that were running at a moment or since a time', () => {
    const failed = anAttempt({ startedAt: T0 - 600_000, completedAt: T0 - 590_000 })
    const done = pullFacts(
      aPull({ status: 'completed', startedAt: T0 - 200_000, completedAt: T0 - 100_000, earlier: [failed] }),
    )
    const found = (text: string) => matches(parseQuery(text, T0), done)
    const at = (seconds: number) => found(`at:${secondOfDay(T0 - seconds * 1000)}`)
    expect([601, 600, 595, 590, 589, 201, 200, 150, 100, 99].map(at)).toEqual([
      false,
      true,
      true,
      true,
      false,
      false,
      true,
      true,
      true,
      false,
    ])
    expect(['since:10m', 'since:1m', 'since:2m', 'since:60m'].map(found)).toEqual([true, false, true, true])
    expect(found('status:failed since:10m')).toBe(true)
    expect(found('status:failed since:9m')).toBe(false)
    expect(found(`since:${secondOfDay(T0 - 100_000)}`)).toBe(true)
    expect(found(`since:${secondOfDay(T0 - 99_000)}`)).toBe(false)
    expect(matches(parseQuery('since:1m', T0), pullFacts(aPull({ startedAt: T0 - 600_000 })))).toBe(true)
  })

  it('names the moments in it', () => {
    expect(parseQuery(`at:${secondOfDay(T0)} node:a at:5m`, T0).moments).toEqual([T0, T0 - 300_000])
    expect(parseQuery('since:5m at:1:xx at:99999999999m', T0).moments).toEqual([])
  })

  it('reads times with a date and a time zone', () => {
    const at = Date.UTC(2026, 10, 23, 14, 5, 30)
    const texts = ['2026-11-23T14:05:30Z', '2026-11-23t14:05:30z', '2026-11-23T23:05:30+09:00']
    for (const text of texts) expect(parseQuery(`at:${text}`, T0).moments).toEqual([at])
    expect(parseQuery('at:2026-11-23T14:05:30.25Z', T0).moments).toEqual([at + 250])
    expect(parseQuery('at:2026-11-99T14:05:30Z,2026-,2026-11-23T', T0).moments).not.toContain(Number.NaN)
  })

  it('gets times for links that do not depend on the time and the time zone', () => {
    const typed = `status:failed since:10m,5m cart at:${secondOfDay(T0)}`
    const text = withLinkTimes(typed, T0)
    expect(text).toBe(
      `status:failed since:${linkTime(T0 - 600_000)},${linkTime(T0 - 300_000)} cart at:${linkTime(T0)}`,
    )
    expect(linkTime(Date.UTC(2026, 10, 23, 14, 5, 30, 999))).toBe('2026-11-23T14:05:30Z')
    const days = 86_400_000
    expect(parseQuery(text, T0 + 3 * days)).toEqual(parseQuery(typed, T0))
    expect(withLinkTimes(text, T0 + 3 * days)).toBe(text)
    expect(withLinkTimes('Image:A,B x', T0)).toBe('Image:A,B x')
  })

  it.each(['at:', 'at:1', 'at:1:xx', 'since:10', 'since:soon', 'at:2026-12-01Tx'])(
    'ignores the incomplete time %j',
    text => expect(fits(text)).toBe(true),
  )

  it('ignores an unfinished token', () => {
    expect(fits('status:')).toBe(true)
  })

  it('treats an unknown key as a word', () => {
    expect(parseQuery('foo:bar').words).toEqual(['foo:bar'])
  })

  it('counts stalled pulls as downloading too, as the tiles do', () => {
    const stalled = pullFacts(aPull({ stalledSince: 1 }))
    expect(fits('status:downloading', stalled)).toBe(true)
    expect(fits('status:stalled', stalled)).toBe(true)
  })
})

describe('a tile', () => {
  it('adds a value and removes it again', () => {
    expect(toggleValue('ns:ml', 'status', 'failed')).toBe('ns:ml status:failed')
    expect(toggleValue('ns:ml status:failed', 'status', 'done')).toBe('ns:ml status:failed,done')
    expect(toggleValue('status:failed nginx', 'status', 'failed')).toBe('nginx')
  })

  it('combines the values of a key', () => {
    expect(withValues('status:a x status:b', 'status', ['c'])).toBe('x status:c')
  })
})

describe('suggestions', () => {
  const known: Known = {
    image: new Set(['docker.io/library/nginx:1.27']),
    node: new Set(['worker-01', 'worker-02']),
    ns: new Set(['monitoring', 'ml']),
    pod: new Set(),
    status: new Set(['failed']),
    registry: new Set(),
    limit: new Set(['disk', 'rate_limit']),
    at: new Set(),
    since: new Set(),
  }
  const words = (text: string, values = known) => suggest(text, values).shown.map(({ word }) => word)
  const KEY_WORDS = ['image:', 'node:', 'ns:', 'pod:', 'status:', 'registry:', 'limit:', 'at:', 'since:']

  const PROBLEM_WORDS = ['status:stalled', 'status:slow', 'status:cancelled', 'status:unobserved']

  it('offer the keys first, and count the values', () => {
    expect(words('')).toEqual([...KEY_WORDS, ...PROBLEM_WORDS])
    expect(suggest('', known).more).toBe(8)
  })

  it('offer the problems before anything is typed, and mark those that no pull has', () => {
    const troubled = { ...known, status: new Set(['downloading', 'unobserved', 'stalled']) }
    const problems = suggest('', troubled).shown.slice(KEY_WORDS.length)
    expect(problems.map(({ word }) => word)).toEqual(PROBLEM_WORDS)
    expect(problems.map(({ hint }) => hint)).toEqual(['', 'none now', 'none now', ''])
  })

  it.each(STATUS_WORDS)('offer status:%s when part of it is typed', state => {
    expect(words(state.slice(0, 3))).toContain(`status:${state}`)
    expect(words('status:')).toContain(`status:${state}`)
  })

  it('offer limiting factors', () => {
    expect(words('limit:')).toEqual(['limit:disk', 'limit:rate_limit'])
    expect(words('rate')).toEqual(['limit:rate_limit'])
  })

  it('offer states even among many images, and count the hidden suggestions', () => {
    const many = { ...known, image: new Set(Array.from({ length: 500 }, (_, n) => `docker.io/app-${n}`)) }
    const { shown, more } = suggest('do', many)
    expect(shown.map(({ word }) => word)).toContain('status:downloading')
    expect(shown.length + more).toBe(502)
    expect(more).toBe(402)
  })

  it('offer the values of a key, with those that begin with the text first', () => {
    expect(words('ns:m')).toEqual(['ns:ml', 'ns:monitoring'])
    expect(words('node:02')).toEqual(['node:worker-02'])
  })

  it('offer a second value after a comma, but not the first one again', () => {
    expect(words('node:worker-01,')).toEqual(['node:worker-01,worker-02'])
  })

  it('offer the fields in which a free word occurs', () => {
    expect(words('ngi')).toEqual(['image:docker.io/library/nginx:1.27'])
  })
})

it('removes the filters that describe single pulls, and keeps the rest of the query', () => {
  const rest = 'image:nginx node:a,b ns:shop pod:web registry:quay.io since:10m Cart'
  expect(withoutPullFilters(`status:failed ${rest} LIMIT:disk at:14:05:30`)).toBe(rest)
  expect(withoutPullFilters('')).toBe('')
})

import { describe, expect, it } from 'vitest'
import { aContext, aPod, aPull } from '../testing'
import type { Pull } from '../wire/wire'
import { pullFacts as factsOf } from './pullRows'
import { type Known, matches, parseQuery, STATUS_WORDS, suggest, toggleValue, withValues } from './query'

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

  it('finds a pull by the factor that limits it', () => {
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
  it('adds its value and removes it again', () => {
    expect(toggleValue('ns:ml', 'status', 'failed')).toBe('ns:ml status:failed')
    expect(toggleValue('ns:ml status:failed', 'status', 'done')).toBe('ns:ml status:failed,done')
    expect(toggleValue('status:failed nginx', 'status', 'failed')).toBe('nginx')
  })

  it('combines values of one key', () => {
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
  }
  const words = (text: string, values = known) => suggest(text, values).shown.map(({ word }) => word)
  const KEY_WORDS = ['image:', 'node:', 'ns:', 'pod:', 'status:', 'registry:', 'limit:']

  it('offer the keys first, and count the values', () => {
    expect(words('')).toEqual(KEY_WORDS)
    expect(suggest('', known).more).toBe(8)
  })

  it('offer the problems of the pulls before anything is typed', () => {
    const troubled = { ...known, status: new Set(['downloading', 'unobserved', 'stalled']) }
    expect(words('', troubled)).toEqual([...KEY_WORDS, 'status:stalled', 'status:unobserved'])
  })

  it.each(STATUS_WORDS)('offer status:%s for a part of it', state => {
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

  it('offer values of a key, starting with those that begin with the text', () => {
    expect(words('ns:m')).toEqual(['ns:ml', 'ns:monitoring'])
    expect(words('node:02')).toEqual(['node:worker-02'])
  })

  it('offer a second value after a comma, but not the first one again', () => {
    expect(words('node:worker-01,')).toEqual(['node:worker-01,worker-02'])
  })

  it('offers the fields in which a free word occurs', () => {
    expect(words('ngi')).toEqual(['image:docker.io/library/nginx:1.27'])
  })
})

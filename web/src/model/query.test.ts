import { describe, expect, it } from 'vitest'
import { aContext, aPod, aPull } from '../testing'
import type { Pull } from '../wire/wire'
import { pullFacts as factsOf } from './pullRows'
import { type Key, matches, parseQuery, suggest, toggleValue, withValues } from './query'

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
  const known: Record<Key, string[]> = {
    image: ['docker.io/library/nginx:1.27'],
    node: ['worker-01', 'worker-02'],
    ns: ['monitoring', 'ml'],
    pod: [],
    status: ['failed'],
    registry: [],
  }
  const words = (text: string) => suggest(text, known).map(({ word }) => word)

  it('offer the keys at first', () => {
    expect(words('')).toEqual(['image:', 'node:', 'ns:', 'pod:', 'status:', 'registry:'])
  })

  it('offer values of a key, those that begin with the text first', () => {
    expect(words('ns:m')).toEqual(['ns:ml', 'ns:monitoring'])
    expect(words('node:02')).toEqual(['node:worker-02'])
  })

  it('offer a second value after a comma, but not the same again', () => {
    expect(words('node:worker-01,')).toEqual(['node:worker-01,worker-02'])
  })

  it('offers the fields in which a free word occurs', () => {
    expect(words('ngi')).toEqual(['image:docker.io/library/nginx:1.27'])
  })
})

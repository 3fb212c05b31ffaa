import { expect, it } from 'vitest'
import { bottleneck } from './bottleneck'
import { aLayer, aPull, T0 } from './testing'
import type { Layer, Pull } from './wire'

const at = (seconds: number) => T0 + seconds * 1000
const line = (layers: readonly Layer[], change: Partial<Pull> = {}) =>
  bottleneck(aPull({ layers, ...change }), at(60))

it('names the layer that holds most of what is left', () => {
  const words = line([
    aLayer({ digest: 'sha256:fat', totalBytes: 2.6e9, downloadedBytes: 1e9, state: 'downloading' }),
    aLayer({ digest: 'sha256:thin', totalBytes: 0.4e9, state: 'downloading' }),
  ])
  expect(words).toBe('Bottleneck: layer fat (2.6 GB), 80 % of the bytes still to come')
})

it('names no layer when none stands out', () => {
  const three = ['a', 'b', 'c'].map(digest => aLayer({ digest, state: 'downloading' }))
  expect(line(three)).toBeUndefined()
})

it('blames busy slots only while something waits', () => {
  const layers = ['a', 'b', 'c', 'd'].map((digest, n) =>
    aLayer({ digest, state: n < 3 ? 'downloading' : 'waiting' }),
  )
  expect(line(layers)).toBe("1 layer waits while 3 are downloading: the node's download slots are busy")
})

it('tells of layers that other pulls are fetching', () => {
  expect(line([aLayer({ digest: 'sha256:x', state: 'waiting', fetchedBy: 'other' })])).toContain(
    'that another pull is fetching',
  )
})

it('tells of the disk when everything is here', () => {
  const layers = [aLayer({ state: 'extracted' }), aLayer({ digest: 'sha256:b', state: 'extracting' })]
  expect(line(layers, { status: 'extracting' })).toBe('Everything is here; the disk unpacks layer b (100 MB)')
})

it('tells how long nothing has come', () => {
  expect(line([aLayer({ state: 'downloading' })], { stalledSince: at(12) })).toBe('No byte has come for 48 s')
})

it('looks back on a pull that is over', () => {
  const fetched = { startedAt: at(0), completedAt: at(10), state: 'extracted' } as const
  expect(line([aLayer(fetched)], { status: 'completed', completedAt: at(40) })).toContain(
    'Unpacking took 30 s of 40 s',
  )
  expect(line([aLayer(fetched)], { status: 'completed', completedAt: at(3) })).toBeUndefined()
})

it('says nothing of a failed pull or of one without layers', () => {
  expect(line([aLayer({ state: 'failed' })], { status: 'failed' })).toBeUndefined()
  expect(bottleneck(aPull(), at(5))).toBeUndefined()
})

it('names no layer while sizes are not known', () => {
  expect(line([aLayer({ state: 'downloading', totalKnown: false })])).toBeUndefined()
})

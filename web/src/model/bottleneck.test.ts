import { expect, it } from 'vitest'
import { aLayer, aPull, T0 } from '../testing'
import type { Layer, Pull } from '../wire/wire'
import { bottleneck } from './bottleneck'

const at = (seconds: number) => T0 + seconds * 1000
const line = (layers: readonly Layer[], change: Partial<Pull> = {}) =>
  bottleneck(aPull({ layers, ...change }), at(60))

it('names the layer with most of the remaining bytes', () => {
  const words = line([
    aLayer({ digest: 'sha256:fat', totalBytes: 2.6e9, downloadedBytes: 1e9, state: 'downloading' }),
    aLayer({ digest: 'sha256:thin', totalBytes: 0.4e9, state: 'downloading' }),
  ])
  expect(words).toBe('Bottleneck: layer fat (2.6 GB), 80 % of the remaining bytes')
})

it('does not name a layer when all have about as many bytes left', () => {
  const three = ['a', 'b', 'c'].map(digest => aLayer({ digest, state: 'downloading' }))
  expect(line(three)).toBeUndefined()
})

it('names busy slots only while a layer is waiting', () => {
  const layers = ['a', 'b', 'c', 'd'].map((digest, n) =>
    aLayer({ digest, state: n < 3 ? 'downloading' : 'waiting' }),
  )
  expect(line(layers)).toBe("1 layer is waiting while 3 are downloading: the node's download slots are busy")
})

it('names the layers that other pulls are downloading', () => {
  expect(line([aLayer({ digest: 'sha256:x', state: 'waiting', fetchedBy: 'other' })])).toContain(
    'which another pull is downloading',
  )
})

it('does not name a bottleneck while the snapshotter fetches layers whose bytes are not observed', () => {
  expect(line([aLayer({ state: 'downloading', fetchedBy: 'snapshotter' })])).toBeUndefined()
})

it('names unpacking as the bottleneck when all bytes have arrived', () => {
  const layers = [aLayer({ state: 'extracted' }), aLayer({ digest: 'sha256:b', state: 'extracting' })]
  expect(line(layers, { status: 'extracting' })).toBe(
    'All bytes have arrived; the node is unpacking layer b (100 MB)',
  )
})

it('shows for how long no bytes have arrived', () => {
  expect(line([aLayer({ state: 'downloading' })], { stalledSince: at(12) })).toBe(
    'No bytes have arrived for 48 s',
  )
})

it('names the bottleneck of a finished pull', () => {
  const fetched = { startedAt: at(0), completedAt: at(10), state: 'extracted' } as const
  expect(line([aLayer(fetched)], { status: 'completed', completedAt: at(40) })).toContain(
    'Unpacking took 30 s of 40 s',
  )
  expect(line([aLayer(fetched)], { status: 'completed', completedAt: at(3) })).toBeUndefined()
})

it('does not name a bottleneck for a failed pull or a pull without layers', () => {
  expect(line([aLayer({ state: 'failed' })], { status: 'failed' })).toBeUndefined()
  expect(bottleneck(aPull(), at(5))).toBeUndefined()
})

it('does not name a layer while sizes are unknown', () => {
  expect(line([aLayer({ state: 'downloading', totalKnown: false })])).toBeUndefined()
})

import { describe, expect, it } from 'vitest'
import { aLayer, aPull, T0 } from '../testing'
import type { Layer } from '../wire/wire'
import { blockingLayer, layerRate, waterfall } from './waterfall'

const at = (seconds: number) => T0 + seconds * 1000

describe('a waterfall', () => {
  it('the axis extends from the start of the pull to its expected end', () => {
    const { now, readySeconds, lengthSeconds } = waterfall(aPull({ etaSeconds: 60 }), at(40))
    expect(readySeconds).toBe(100)
    expect(lengthSeconds).toBe(100)
    expect(now).toBeCloseTo(0.4)
  })

  it('the axis of a finished pull stops where the pull ended', () => {
    const { now, readySeconds, lengthSeconds } = waterfall(
      aPull({ status: 'completed', completedAt: at(30) }),
      at(900),
    )
    expect([now, readySeconds, lengthSeconds]).toEqual([undefined, undefined, 30])
  })

  it('shows when a layer is waiting, downloading, downloaded, and unpacked after the previous layer', () => {
    const layers = [
      aLayer({ digest: '1', state: 'extracted', startedAt: at(0), completedAt: at(20), extractedAt: at(60) }),
      aLayer({
        digest: '2',
        state: 'extracted',
        startedAt: at(10),
        completedAt: at(30),
        extractedAt: at(80),
      }),
    ]
    const { lanes } = waterfall(aPull({ layers, status: 'completed', completedAt: at(100) }), at(500))
    expect(lanes[1]?.segments).toEqual([
      { phase: 'waiting', from: 0, to: 0.1 },
      { phase: 'downloading', from: 0.1, to: 0.3 },
      { phase: 'downloaded', from: 0.3, to: 0.6 },
      { phase: 'extracting', from: 0.6, to: 0.8 },
    ])
  })

  it('draws cached layers across the whole axis, and failed layers as failed', () => {
    const layers = [
      aLayer({ digest: '1', state: 'cached' }),
      aLayer({ digest: '2', state: 'failed', startedAt: at(5) }),
    ]
    const { lanes } = waterfall(aPull({ layers, etaSeconds: 50 }), at(50))
    expect(lanes[0]?.segments).toEqual([{ phase: 'cached', from: 0, to: 1 }])
    expect(lanes[1]?.segments.at(-1)).toEqual({ phase: 'failed', from: 0.05, to: 0.5 })
  })

  it.each([0.5, 7, 59, 61, 600, 7200, 90_000])('has a readable axis for %d seconds', seconds => {
    const { ticks } = waterfall(aPull({ status: 'completed', completedAt: at(seconds) }), at(seconds))
    expect(ticks.length).toBeGreaterThanOrEqual(1)
    expect(ticks.length).toBeLessThanOrEqual(7)
  })

  it('every bar stays on the axis even if the clocks disagree', () => {
    const layers = [
      aLayer({ state: 'downloading', startedAt: at(-50) }),
      aLayer({ digest: '2', state: 'extracting', startedAt: at(90), completedAt: at(95) }),
    ]
    const { lanes } = waterfall(aPull({ layers, etaSeconds: 0 }), at(10))
    for (const { from, to } of lanes.flatMap(({ segments }) => segments)) {
      expect(from).toBeGreaterThanOrEqual(0)
      expect(to).toBeLessThanOrEqual(1)
      expect(to).toBeGreaterThan(from)
    }
  })
})

it('returns the layer that must be unpacked before this one', () => {
  const layers = [
    aLayer({ digest: '1', state: 'cached' }),
    aLayer({ digest: '2', state: 'downloading' }),
    aLayer({ digest: '3', state: 'downloaded' }),
  ]
  const last = layers[2]
  expect(last && blockingLayer(layers, last)?.digest).toBe('2')
})

it('a layer has no rate without a measurement', () => {
  expect(layerRate(aLayer({ startedAt: at(0), completedAt: at(0.1), downloadedBytes: 5 }))).toBeUndefined()
  expect(layerRate(aLayer({ startedAt: at(0), completedAt: at(10), downloadedBytes: 100 }))).toBe(10)
})

describe('parallel unpacking', () => {
  const layers = [
    aLayer({
      digest: '1',
      state: 'extracted',
      startedAt: at(0),
      completedAt: at(10),
      extractStartedAt: at(20),
      extractedAt: at(80),
    }),
    aLayer({
      digest: '2',
      state: 'extracted',
      startedAt: at(0),
      completedAt: at(20),
      extractStartedAt: at(30),
      extractedAt: at(60),
    }),
    aLayer({ digest: '3', state: 'downloaded', startedAt: at(0), completedAt: at(30) }),
  ]

  it('unpacking starts at the time that the agent reported', () => {
    const { lanes } = waterfall(aPull({ layers, status: 'completed', completedAt: at(100) }), at(500))
    const extracting = lanes.map(({ segments }) => segments.find(({ phase }) => phase === 'extracting'))
    expect(extracting.slice(0, 2)).toEqual([
      { phase: 'extracting', from: 0.2, to: 0.8 },
      { phase: 'extracting', from: 0.3, to: 0.6 },
    ])
  })

  it('no layer blocks another layer during parallel unpacking', () => {
    const last = layers[2]
    expect(last && blockingLayer(layers, last)).toBeUndefined()
  })
})

it('draws layers served by the snapshotter across the whole axis', () => {
  const { lanes } = waterfall(aPull({ layers: [aLayer({ state: 'remote' })], etaSeconds: 5 }), at(5))
  expect(lanes[0]?.segments).toEqual([{ phase: 'remote', from: 0, to: 1 }])
})

it('does not show a layer as failed if its download never started', () => {
  const layers = [aLayer({ state: 'failed' })]
  const { lanes } = waterfall(aPull({ layers, status: 'failed', completedAt: at(30) }), at(40))
  expect(lanes[0]?.segments).toEqual([{ phase: 'waiting', from: 0, to: 1 }])
})

it('shows unpacking as failed when it failed', () => {
  const layer = aLayer({ state: 'failed', startedAt: at(0), completedAt: at(10), extractStartedAt: at(20) })
  const { lanes } = waterfall(aPull({ layers: [layer], status: 'failed', completedAt: at(40) }), at(50))
  expect(lanes[0]?.segments.map(({ phase }) => phase)).toEqual(['downloading', 'downloaded', 'failed'])
})

describe('a pull whose layers the snapshotter fetches', () => {
  const fetching = (change: Partial<Layer>) =>
    aLayer({ fetchedBy: 'snapshotter', startedAt: at(10), ...change })
  const lanesOf = (...layers: readonly Layer[]) => waterfall(aPull({ layers, etaSeconds: 60 }), at(40)).lanes
  const segment = (phase: string, from: number, to: number) => ({ phase, from, to })

  it('an unpacked layer’s bar ends when unpacking ended, and a live layer’s bar ends at the present', () => {
    const [extracted, live] = lanesOf(
      fetching({ state: 'extracted', extractedAt: at(30) }),
      fetching({ state: 'downloading' }),
    )
    expect(extracted?.segments).toEqual([segment('waiting', 0, 0.1), segment('downloading', 0.1, 0.3)])
    expect(live?.segments).toEqual([segment('waiting', 0, 0.1), segment('downloading', 0.1, 0.4)])
  })

  it('shows unpacking from its reported start', () => {
    const [lane] = lanesOf(fetching({ state: 'extracted', extractStartedAt: at(20), extractedAt: at(30) }))
    expect(lane?.segments.slice(1)).toEqual([
      segment('downloading', 0.1, 0.2),
      segment('extracting', 0.2, 0.3),
    ])
  })

  it('shows a layer that was unpacked before the agent saw it only as waiting', () => {
    const [lane] = lanesOf(fetching({ state: 'extracted', startedAt: at(31), extractedAt: at(30) }))
    expect(lane?.segments).toEqual([segment('waiting', 0, 0.3)])
  })

  it.each([
    ['other', 'borrowed'],
    ['snapshotter', 'downloading'],
    ['a', 'downloading'],
    [undefined, 'downloading'],
  ])('marks only layers fetched by other pulls: fetched by %s is %s', (fetchedBy, phase) => {
    const [lane] = lanesOf(fetching({ state: 'downloading', fetchedBy }))
    expect(lane?.segments.at(-1)?.phase).toBe(phase)
  })
})

it('does not show failed layers in a cancelled pull', () => {
  const layers = [
    aLayer({ state: 'failed', startedAt: at(0) }),
    aLayer({ digest: '2', state: 'failed', startedAt: at(0), completedAt: at(10), extractStartedAt: at(10) }),
  ]
  const cancelled = { status: 'failed', errorReason: 'canceled', completedAt: at(20) } as const
  const { lanes } = waterfall(aPull({ layers, ...cancelled }), at(50))
  expect(lanes.map(({ segments }) => segments.map(({ phase }) => phase))).toEqual([
    ['downloading'],
    ['downloading', 'extracting'],
  ])
})

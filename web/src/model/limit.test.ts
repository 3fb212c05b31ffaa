import { describe, expect, it } from 'vitest'
import { aLayer, anAttempt, aPull, T0 } from '../testing'
import type { Pull } from '../wire/wire'
import { compareNodes, isLikeElsewhere, isSlowNode } from './comparison'
import {
  asUsualWords,
  basisWords,
  comparedRate,
  delayWords,
  explanation,
  limitSentence,
  limitWord,
  slowSentence,
  timeLeftWords,
  usualWords,
} from './limit'
import type { QueuePlace } from './queue'

const now = T0 + 20_000
const MB = 1e6
const here = aPull({ downloadedBytes: 98 * MB })
const elsewhere = (node: string, rate: number) =>
  aPull({
    id: node,
    nodeName: node,
    status: 'completed',
    downloadedBytes: 100 * MB,
    completedAt: T0 + (100 * MB * 1000) / rate,
  })

describe('the comparison with other nodes', () => {
  const compared = (pull: Pull, ...others: readonly Pull[]) => compareNodes(pull, [pull, ...others], now)

  it('uses the median of the other nodes', () => {
    const others = [elsewhere('b', 28 * MB), elsewhere('c', 30 * MB), elsewhere('d', 2 * MB)]
    const found = compared(here, ...others)
    expect(found).toMatchObject({ here: 4.9 * MB, nodes: 3 })
    expect((found?.elsewhere ?? 0) / MB).toBeCloseTo(28, 3)
    expect(found && isSlowNode(found)).toBe(true)
  })

  it('does not blame the node if the other nodes are just as slow', () => {
    const found = compared(here, elsewhere('b', 5 * MB), elsewhere('c', 4.6 * MB))
    expect(found && isSlowNode(found)).toBe(false)
    expect(found && isLikeElsewhere(found)).toBe(true)
  })

  it('gives the figures, but does not name a limit that the server has not named', () => {
    const why = 'The measurements do not identify one limit for this download.'
    const pull: Pull = { ...here, bound: { by: 'unknown', why, figures: {} } }
    const others = [elsewhere('b', 5 * MB), elsewhere('c', 4.6 * MB)]
    expect(limitSentence(pull, undefined, [pull, ...others], now)).toBe(
      `${why} 4.9 MB/s on this node, 4.8 MB/s on other nodes.`,
    )
    const faster = [elsewhere('b', 28 * MB), elsewhere('c', 28 * MB)]
    expect(limitSentence(pull, undefined, [pull, ...faster], now)).toBe(
      '4.9 MB/s on this node, 28.0 MB/s on other nodes: the node or its network is slow.',
    )
  })

  it.each([
    ['another image', { imageRef: 'r/other:1' }],
    ['the same node', { nodeName: 'worker-01' }],
    ['a pull without a byte', { downloadedBytes: 0 }],
    ['a failed pull', { status: 'failed' }],
  ] as const)('does not compare with %s', (_, change) => {
    expect(compared(here, { ...elsewhere('b', 9 * MB), ...change })).toBeUndefined()
  })

  it('does not judge a pull that has just started', () => {
    expect(compared({ ...here, startedAt: now - 2000 }, elsewhere('b', 9 * MB))).toBeUndefined()
  })

  it('does not compare a pull whose bytes are not observed', () => {
    expect(compared({ ...here, percentBasis: 'layers' }, elsewhere('b', 90 * MB))).toBeUndefined()
  })
})

describe('the word in the row', () => {
  it.each<[string, Partial<Pull>, string]>([
    [
      'the registry with its speed',
      { bound: { by: 'registry', why: '', figures: {} }, bytesPerSec: 5 * MB },
      'registry 5.0 MB/s',
    ],
    ['the disk', { bound: { by: 'disk', why: '', figures: {} } }, 'disk'],
    [
      'the disk with its load',
      { bound: { by: 'disk', why: '', figures: { diskBusyPercent: 92 } } },
      'disk 92 %',
    ],
    ['the CPU', { bound: { by: 'cpu', why: '', figures: { cpuPressurePercent: 40 } } }, 'CPU 40 %'],
    [
      'one layer with its share',
      { bound: { by: 'layer', why: '', figures: { layerBytes: 71, totalBytes: 100 } } },
      'one layer 71 %',
    ],
    [
      'the share of the time of an ended pull',
      { status: 'completed', bound: { by: 'registry', why: '', figures: { percentOfTime: 64 } } },
      'registry 64 % of the time',
    ],
    ['the rate limit', { bound: { by: 'rate_limit', why: '', figures: {} } }, 'rate limit'],
    ['nothing when it is unknown', { bound: { by: 'unknown', why: '', figures: {} } }, ''],
    ['the unpacked share', { status: 'extracting', extractedBytes: 64 * MB }, '64 % unpacked'],
    ['nothing for an ended pull without a verdict', { status: 'completed' }, ''],
  ])('is %s', (_, change, word) => {
    expect(limitWord(aPull(change), undefined)).toBe(word)
  })

  it('the word for a queued pull is its place in the queue', () => {
    const queued = aPull({ status: 'queued' })
    expect(limitWord(queued, { position: 2, ahead: [here] })).toBe('2nd in queue')
    expect(limitWord(queued, { position: 1, ahead: [] })).toBe('')
  })
})

describe('the words for a waiting pod', () => {
  const queued = aPull({ status: 'queued' })

  it.each<[string, Pull, QueuePlace | undefined, string]>([
    [
      'the pulls ahead',
      { ...queued, usualSeconds: 9 },
      { position: 1, ahead: [{ ...here, etaSeconds: 3 }] },
      'behind library/nginx:1.27',
    ],
    ['an own duration that is not known', queued, { position: 1, ahead: [] }, 'no estimate for this image'],
    [
      'a pull ahead without an estimate',
      { ...queued, usualSeconds: 9 },
      { position: 1, ahead: [here] },
      'behind library/nginx:1.27, no estimate for library/nginx:1.27',
    ],
    [
      'the reason why there is no estimate',
      aPull({ etaMissing: 'unpacking takes longer than usual' }),
      undefined,
      'unpacking takes longer than usual',
    ],
    ['nothing more if there is an estimate', aPull({ etaSeconds: 4 }), undefined, ''],
  ])('name %s', (_, pull, place, words) => {
    expect(delayWords(pull, place, now)).toBe(words)
  })
})

describe('the sentence in the open row', () => {
  it('uses the server’s explanation if there is one', () => {
    const pull = aPull({ bound: { by: 'disk', why: 'The disk writes 80 MB/s', figures: {} } })
    expect(limitSentence(pull, undefined, [pull], now)).toBe('The disk writes 80 MB/s.')
  })

  it('blames a slow node rather than a layer', () => {
    const layers = [aLayer({ state: 'downloading', downloadedBytes: 1 })]
    const pull = { ...here, layers }
    expect(limitSentence(pull, undefined, [pull, elsewhere('b', 28 * MB)], now)).toBe(
      '4.9 MB/s on this node, 28.0 MB/s on another node: the node or its network is slow.',
    )
    expect(limitSentence(pull, undefined, [pull], now)).toMatch(/^Bottleneck: layer/)
  })

  it('names the pulls ahead in the queue, and the expected start', () => {
    const ahead = [aPull({ etaSeconds: 70 }), aPull({ id: 'b', status: 'queued', usualSeconds: 20 })]
    const own = aPull({ status: 'queued', usualSeconds: 5 })
    expect(limitSentence(own, { position: 2, ahead }, [], T0)).toBe(
      '2nd in the queue of this node, behind library/nginx:1.27 and 1 more. If the pulls take as long as usual, it starts in 1:30 and is ready in 1:35.',
    )
  })

  it('names the pull without an estimate, and the earliest start', () => {
    const ahead = [aPull({ etaSeconds: 70 }), aPull({ imageRef: 'r.io/a/b:1', status: 'queued' })]
    expect(limitSentence(aPull({ status: 'queued' }), { position: 2, ahead }, [], T0)).toMatch(
      /It starts in about 1:10 at the earliest: no estimate for a\/b:1\.$/,
    )
  })

  it('mentions queued pulls of deleted pods, which have no estimate', () => {
    const place = { position: 2, deleted: 1, ahead: [aPull({ etaSeconds: 70 })] }
    const own = aPull({ status: 'queued', usualSeconds: 5 })
    expect(limitSentence(own, place, [], T0)).toBe(
      '2nd in the queue of this node, behind library/nginx:1.27, and 1 pull of deleted pods. It starts in about 1:10 at the earliest: no estimate for 1 pull of deleted pods.',
    )
    expect(limitSentence(own, { ...place, ahead: [], tied: 1 }, [], T0)).toMatch(
      /^2nd to 3rd in the queue of this node, behind 1 pull of deleted pods\./,
    )
  })

  it('compares a slow pull with its usual duration first', () => {
    const slow = aPull({ usualSeconds: 20, slowerThanUsual: 2.9 })
    expect(explanation('', slow, undefined, [], now)).toBe(
      'Slower than usual: 2.9× the usual 20 s at this node’s speed.',
    )
    const disk = { ...slow, bound: { by: 'disk', why: 'The disk is busy.', figures: {} } } as const
    expect(explanation('Blocked', disk, undefined, [], now)).toMatch(
      /^Blocked\. Slower than usual: .* The disk is busy\.$/,
    )
    expect(explanation('', aPull({ usualSeconds: 20 }), undefined, [], now)).toBeUndefined()
  })

  it('compares the expected duration with the usual duration, unless the pull is slow or cannot be compared', () => {
    const usual = { usualSeconds: 100, usualComparable: true }
    const words = [70, 80, 125, 160].map(seconds => asUsualWords(aPull(usual), seconds))
    expect(words).toEqual(['faster than usual', 'about as usual', 'about as usual', '1.6× the usual time'])
    for (const change of [{ slowerThanUsual: 2.5 }, { usualComparable: false }, { usualSeconds: undefined }])
      expect(asUsualWords({ ...aPull(usual), ...change } as Pull, 100)).toBe('')
  })

  it('compares a rate with the usual rate', () => {
    const words = [0.4, 0.7, 1.4, 1.6].map(factor => comparedRate(factor * 10 * MB, 10 * MB))
    expect(words).toEqual([
      '0.4× the usual 10.0 MB/s there',
      'about as usual there (10.0 MB/s)',
      'about as usual there (10.0 MB/s)',
      '1.6× the usual 10.0 MB/s there',
    ])
  })

  it('there is no sentence without evidence', () => {
    expect(limitSentence(aPull(), undefined, [], now)).toBeUndefined()
  })
})

it('the estimate counts down between two events', () => {
  const pull = aPull({ etaSeconds: 90, updatedAt: T0 })
  expect(timeLeftWords(pull, T0)).toBe('1:30')
  expect(timeLeftWords(pull, T0 + 60_000)).toBe('30 s')
  expect(timeLeftWords(pull, T0 + 90_000)).toBe('any moment')
  expect(timeLeftWords({ ...pull, status: 'extracting' }, T0)).toBe('about 2 min')
  expect(timeLeftWords(aPull(), T0)).toBeUndefined()
})

it('a retry states its reason, and a new pull states that the earlier attempt was cancelled', () => {
  const earlier = [anAttempt({ errorReason: 'canceled', percent: 43 }), anAttempt({ attempt: 2 })]
  const retry = aPull({ attempt: 3, status: 'queued', earlier })
  expect(limitWord(retry, { position: 2, ahead: [aPull({ id: 'b' })] })).toBe(
    'attempt 2: not found, 2nd in queue',
  )
  expect(limitWord(aPull({ attempt: 3, downloadedBytes: 1, earlier }), undefined)).toBe('cancelled before')
  expect(limitWord(aPull({ attempt: 3, downloadedBytes: 1, earlier: earlier.slice(1) }), undefined)).toBe('')
})

it('a usual duration based on other pulls is marked as an estimate', () => {
  const slow = aPull({ usualSeconds: 20, slowerThanUsual: 2.9, usualBasis: 'node' })
  expect(slowSentence(slow)).toBe(
    'Slower than usual: 2.9× the usual ≈ 20 s at this node’s speed, estimated from other registries on this node.',
  )
  expect(usualWords({ ...slow, usualBasis: 'image' }, 20)).toBe('20 s')
})

it.each([
  [
    { usualCount: 5 },
    ' at this node’s speed (median of 5 pulls, too few or too different to call a pull slow)',
  ],
  [{ usualCount: 5, usualComparable: true }, ' at this node’s speed (median of 5 pulls)'],
  [
    { usualCount: 5, usualBasis: 'repository', usualComparable: true },
    ' at this node’s speed, estimated from other pulls of this repository (median of 5 pulls)',
  ],
  [{}, ' at this node’s speed'],
  [
    { usualCount: 4, usualBasis: 'other_nodes', usualComparable: true },
    ', estimated from other nodes (median of 4 pulls)',
  ],
] as const)('the number of earlier pulls and their kind explain the usual duration: %j', (change, words) => {
  expect(basisWords(aPull({ usualSeconds: 20, ...change }))).toBe(words)
})

it('a usual duration from other nodes gives only a lower bound', () => {
  const first = aPull({ id: 'b', etaSeconds: 30 })
  const second = aPull({ status: 'queued', usualSeconds: 10, usualBasis: 'other_nodes' })
  expect(delayWords(second, { position: 1, ahead: [first] }, T0)).toBe(
    'behind library/nginx:1.27, this image may take longer than on other nodes',
  )
})

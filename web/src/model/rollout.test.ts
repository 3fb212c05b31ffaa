import { describe, expect, it } from 'vitest'
import { aContext, aPod, aPull, T0 } from '../testing'
import type { Pull } from '../wire/wire'
import { parsePodList } from '../wire/wire'
import { ordered } from './order'
import { matches, parseQuery } from './query'
import {
  byRollout,
  IMAGE_ORDER,
  imageFacts,
  lateWords,
  rangeWords,
  imageRows as rowsOf,
  unfinished,
} from './rollout'

const imageRows = (pulls: readonly Pull[]) => rowsOf(pulls, [], aContext(pulls, ['shop/p']))

const done = (node: string, seconds: number) =>
  aPull({
    id: `${node}-${seconds}`,
    nodeName: node,
    status: 'completed',
    completedAt: T0 + seconds * 1000,
    downloadedBytes: 1,
  })

it('counts nodes by the state of their latest pull', () => {
  const [row] = imageRows([
    done('n1', 10),
    aPull({ id: 'again', nodeName: 'n1', startedAt: T0 + 60_000, status: 'queued' }),
    aPull({ id: 'x', nodeName: 'n2', status: 'failed', pods: [aPod('p')] }),
    aPull({ id: 'y', nodeName: 'n3', status: 'extracting', etaSeconds: 5 }),
    done('n4', 10),
    aPull({ id: 'z', nodeName: 'n5', status: 'failed', completedAt: T0 }),
    aPull({ id: 'c', nodeName: 'n6', status: 'failed', errorReason: 'canceled', completedAt: T0 }),
  ])
  expect(row).toMatchObject({ done: 1, pulling: 1, queued: 1, failed: 1, stopped: 2 })
  expect(row && unfinished(row)).toBe(3)
  // The node with the failed pull is not chosen, because pulls on other nodes are still in progress.
  expect(row?.last).toMatchObject({ node: 'n1', state: 'queued' })
})

it('shows on how many nodes an image is being pulled, and the range of their progress', () => {
  const pulling = (nodeName: string, percent: number, totalKnown = true) =>
    aPull({ id: nodeName, nodeName, percent, totalKnown })
  const words = (...pulls: readonly Pull[]) => {
    const [row] = imageRows(pulls)
    return row && [row.pulling, rangeWords(row)]
  }
  const queued = aPull({ id: 'q', nodeName: 'q', status: 'queued' })
  expect(words(pulling('a', 64.2), pulling('b', 8), queued)).toEqual([2, '8 % to 64 %'])
  expect(words(pulling('a', 64.2), done('b', 9))).toEqual([1, '64 %'])
  expect(words(pulling('a', 64.2), pulling('b', 0, false))).toEqual([2, 'up to 64 %'])
  expect(words(pulling('a', 0, false))).toEqual([1, ''])
  expect(words(queued)).toEqual([0, ''])
  const extracting = aPull({ id: 'e', nodeName: 'e', status: 'extracting', percent: 100, totalKnown: true })
  expect(words(extracting)).toEqual([1, 'extracting'])
  expect(words(pulling('a', 64), extracting)).toEqual([2, '64 %, 1 extracting'])
})

const waitingPod = (podName: string, nodeName: string, image: string, more: object = {}) => ({
  namespace: 'shop',
  podName,
  nodeName,
  waitingSince: new Date(T0).toISOString(),
  containers: [{ container: 'c', image, kind: 'app', state: 'waiting', ...more }],
})

it('counts nodes where a pod is waiting but the kubelet has not requested the image', () => {
  const { pods } = parsePodList({
    watching: true,
    pods: [
      waitingPod('a', 'edge-1', 'nginx:1.27'),
      waitingPod('b', 'edge-1', 'docker.io/library/nginx:1.27'),
      waitingPod('c', 'n1', 'nginx:1.27'),
      waitingPod('d', 'edge-2', 'redis'),
      waitingPod('e', 'edge-3', 'nginx:1.27', { pullId: 'x', state: 'queued' }),
    ],
  })
  const pulls = [done('n1', 10), done('n2', 90)]
  const [nginx, redis] = rowsOf(pulls, pods, aContext(pulls))
  expect(nginx).toMatchObject({
    done: 2,
    waiting: ['edge-1'],
    nodeCount: 3,
    last: { node: 'edge-1', state: 'waiting' },
  })
  expect(nginx && unfinished(nginx)).toBe(1)
  expect(redis).toMatchObject({
    imageRef: 'docker.io/library/redis:latest',
    waiting: ['edge-2'],
    imageBytes: 0,
  })
  const found = (query: string) => redis && matches(parseQuery(query), imageFacts(redis, aContext(pulls)))
  expect(['image:redis', 'node:edge-2', 'registry:docker.io', 'image:nginx'].map(found)).toEqual([
    true,
    true,
    true,
    false,
  ])
})

it('shows the median and the longest duration of the pulls that downloaded something', () => {
  const cached = aPull({ id: 'c', nodeName: 'n9', status: 'completed', completedAt: T0 })
  const [row] = imageRows([done('n1', 10), done('n2', 30), done('n3', 20), done('n4', 90), cached])
  expect(row).toMatchObject({ medianSeconds: 25, longest: { nodeName: 'n4' }, last: undefined, done: 5 })
  expect(imageRows([cached])[0]?.medianSeconds).toBeUndefined()
})

it('shows a running pull as the longest if it has already taken longer than any completed pull', () => {
  const running = aPull({ id: 'r', nodeName: 'n5' })
  const [shorter] = imageRows([done('n1', 10), done('n2', 90), running])
  expect(shorter).toMatchObject({ longest: { nodeName: 'n2' }, longestSeconds: 90 })
  const [longer] = imageRows([done('n1', 10), done('n2', 50), running])
  expect(longer).toMatchObject({ longest: { nodeName: 'n5' }, longestSeconds: 60, medianSeconds: 30 })
  const [queued] = imageRows([done('n2', 50), { ...running, status: 'queued' }])
  expect(queued?.longest?.nodeName).toBe('n2')
  expect(imageRows([running])[0]?.longest).toBeUndefined()
})

describe('the workload of a rollout', () => {
  const image = (tag: string) => `docker.io/shop/web:${tag}`
  const workloadPod = (name: string, owner: string, containers: readonly (readonly [string, string])[]) => ({
    ...waitingPod(name, name, ''),
    owner,
    containers: containers.map(([ref, kind]) => ({ container: ref, image: ref, kind, state: 'waiting' })),
  })
  const rowsFor = (...list: object[]) => {
    const { pods } = parsePodList({ watching: true, pods: list })
    const waited = [aPod('gone', { owner: 'Deployment/web' })]
    const pulls = ['2', 'init'].map(tag => ({ ...done('n1', 10), id: tag, imageRef: image(tag), waited }))
    return [...rowsOf(pulls, pods, aContext(pulls))].sort(byRollout)
  }
  const web = (name: string) =>
    workloadPod(name, 'Deployment/web', [
      [image('init'), 'init'],
      [image('2'), 'app'],
    ])

  it('is shown for the image of its containers, which comes first, but not for its init containers', () => {
    const rows = rowsFor(web('n2'), web('n3'))
    expect(rows.map(({ imageRef, workload }) => [imageRef, workload])).toEqual([
      [image('2'), 'Deployment/web in shop'],
      [image('init'), undefined],
    ])
  })

  it('is not shown if another workload needs the image too', () => {
    const [row] = rowsFor(web('n2'), workloadPod('n3', 'Deployment/other', [[image('2'), 'app']]))
    expect(row).toMatchObject({ nodeCount: 3, workload: undefined })
  })

  it('is not shown if no node needs the image any more', () => {
    expect(rowsFor().map(({ workload }) => workload)).toEqual([undefined, undefined])
  })
})

it('covers the earlier pulls on a node that has pulled the image again', () => {
  const again = { ...done('n1', 1), id: 'again', startedAt: T0 + 200_000, completedAt: T0 + 201_000 }
  const [row] = imageRows([done('n1', 100), { ...again, downloadedBytes: 0 }, done('n2', 20)])
  expect(row).toMatchObject({ completed: 3, medianSeconds: 60, longest: { id: 'n1-100' }, done: 2 })
  expect(row?.pulls.map(({ id }) => id)).toEqual(['n2-20', 'again', 'n1-100'])
})

it('names the node of a failed pull only if no other node needs the image', () => {
  const failed = aPull({ id: 'f', nodeName: 'n1', status: 'failed', completedAt: T0, pods: [aPod('p')] })
  expect(imageRows([failed, done('n2', 5)])[0]?.last).toEqual({ node: 'n1', state: 'failed' })
  expect(imageRows([failed, aPull({ id: 'q', nodeName: 'n3' })])[0]?.last?.node).toBe('n3')
})

it('lists unfinished rollouts first', () => {
  const rows = [
    ...imageRows([done('n1', 1), { ...done('n2', 1), id: 'z' }, aPull({ id: 'p', imageRef: 'quay.io/z:1' })]),
  ].sort(byRollout)
  expect(rows.map(({ imageRef }) => imageRef)).toEqual(['quay.io/z:1', 'docker.io/library/nginx:1.27'])
})

it('a node whose pull is queued behind others is slower than a node that is pulling now', () => {
  const [row] = imageRows([
    aPull({ id: 'now', nodeName: 'n1', etaSeconds: 50 }),
    aPull({ id: 'ahead', nodeName: 'n2', imageRef: 'docker.io/library/big:1', etaSeconds: 45 }),
    aPull({ id: 'later', nodeName: 'n2', startedAt: T0 + 1, status: 'queued', usualSeconds: 10 }),
    aPull({ id: 'soon', nodeName: 'n3', status: 'queued', usualSeconds: 10 }),
  ])
  expect(row?.last?.node).toBe('n2')
  expect(row?.pulls.map(({ id }) => id)).toEqual(['later', 'now', 'soon'])
})

it('a queued pull without an estimate ranks as slower than a running one without an estimate', () => {
  const queued = { nodeName: 'n2', startedAt: T0 + 1, status: 'queued' } as const
  const ahead = aPull({ id: 'ahead', nodeName: 'n2', imageRef: 'docker.io/library/big:1', etaSeconds: 45 })
  const [row] = imageRows([aPull({ id: 'now', nodeName: 'n1' }), ahead, aPull({ id: 'later', ...queued })])
  expect(row?.last?.node).toBe('n2')
})

it('sorts by the number of nodes that still need the image, and then by the number of nodes', () => {
  const pullOf = (imageRef: string, node: string, status: Pull['status']) =>
    aPull({ id: `${imageRef} ${node}`, imageRef, nodeName: node, status, completedAt: T0 })
  const rows = imageRows([
    ...['n1', 'n2', 'n3'].map(node => pullOf('all:1', node, 'completed')),
    ...['n1', 'n2'].map(node => pullOf('two:1', node, 'downloading')),
    pullOf('none:1', 'n1', 'completed'),
  ])
  const sorted = ordered([...rows], { column: 'nodes', descending: true }, IMAGE_ORDER, byRollout)
  expect(sorted.map(({ imageRef }) => imageRef)).toEqual(['two:1', 'all:1', 'none:1'])
})

describe('what the node that finishes last is doing', () => {
  const wordsFor = (...pulls: readonly Pull[]) => {
    const row = imageRows(pulls).find(({ imageRef }) => imageRef === pulls[0]?.imageRef)
    return row?.last && lateWords(row.last, T0)
  }

  it('includes the progress and the time left if they are known', () => {
    const pull = aPull({ percent: 58.4, etaSeconds: 422 })
    expect(wordsFor(pull)).toBe('downloading 58 %, 7:02 left')
    expect(wordsFor({ ...pull, etaSeconds: 0 })).toBe('downloading 58 %, any moment')
    expect(wordsFor({ ...pull, etaSeconds: undefined })).toBe('downloading 58 %')
    expect(wordsFor(aPull({ totalKnown: false }))).toBe('downloading')
    expect(wordsFor({ ...pull, status: 'extracting', percent: 100, etaSeconds: 2 })).toBe(
      'extracting, 2 s left',
    )
  })

  it('counts layers if the bytes cannot be observed', () => {
    const pull = aPull({ percentBasis: 'layers', layerCount: 4, layersDone: 2, percent: 8 })
    expect(wordsFor(pull)).toBe('downloading 8 %, 2/4 layers')
  })

  it('includes the pulls ahead of a queued pull', () => {
    const queued = aPull({ id: 'q', status: 'queued', startedAt: T0 + 1, usualSeconds: 20 })
    const ahead = aPull({ id: 'ahead', imageRef: 'z:1', etaSeconds: 40 })
    expect(wordsFor(queued, ahead)).toBe('queued, 1:00 left')
    expect(wordsFor({ ...queued, usualSeconds: undefined }, ahead)).toBe('queued, > 40 s left')
  })

  it('is a node that has not requested the image yet if its queue is longer than the time left elsewhere', () => {
    const { pods } = parsePodList({ watching: true, pods: [waitingPod('a', 'edge-1', 'nginx:1.27')] })
    const busy = aPull({ id: 'busy', nodeName: 'edge-1', imageRef: 'z:1', etaSeconds: 300 })
    const next = aPull({
      id: 'next',
      nodeName: 'edge-1',
      imageRef: 'y:1',
      status: 'queued',
      usualSeconds: 60,
    })
    const wordsOn = (etaSeconds: number | undefined) => {
      const pulls = [aPull({ nodeName: 'n1', etaSeconds }), busy, { ...next, startedAt: T0 + 1 }]
      const { last } = rowsOf(pulls, pods, aContext(pulls)).find(row => row.waiting.length > 0) ?? {}
      return last && `${last.node}: ${lateWords(last, T0)}`
    }
    expect(wordsOn(50)).toBe('edge-1: waiting, > 6:00 left')
    expect(wordsOn(400)).toBe('n1: downloading 0 %, 6:40 left')
    expect(wordsOn(undefined)).toBe('edge-1: waiting, > 6:00 left')
  })

  it('is only the state if the pull is failing', () => {
    expect(wordsFor(aPull({ status: 'failed', percent: 9, pods: [aPod('p')] }))).toBe('failed')
  })
})

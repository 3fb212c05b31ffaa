import { describe, expect, it } from 'vitest'
import { aContext, aPod, aPull, T0 } from '../testing'
import type { ClusterNode, ErrorReason, Pull } from '../wire/wire'
import { advice, concerns, failureWords, isNotTried } from './attention'
import { failingWords, firstRetry, retryWords } from './failureGroups'

const now = T0 + 60_000
const pod = (podName: string) =>
  aPod(podName, { namespace: 'billing', owner: `Deployment/${podName.slice(0, 3)}` })
const failed = (change: Partial<Pull> = {}) =>
  aPull({
    status: 'failed',
    errorReason: 'unauthorized',
    completedAt: now,
    imageRef: 'ghcr.io/acme/api:2',
    pods: [pod('api-1')],
    ...change,
  })
const found = (pulls: readonly Pull[], waiting?: readonly string[], nodes: readonly ClusterNode[] = []) =>
  concerns(pulls, { nodes, unobserved: [] }, aContext(pulls, waiting, now), now)

it('the strip is empty while nothing is wrong', () => {
  expect(found([aPull(), aPull({ id: 'b', nodeName: 'n', status: 'completed' })])).toEqual([])
})

describe('a failure', () => {
  it('is not a problem before the list of pods contains its pod, unless the list is late', () => {
    const pull = failed({ completedAt: now - 1000 })
    const listed = new Map([[pull.id, ['billing/api-1']]])
    const problems = (byPull: ReadonlyMap<string, readonly string[]>, listedAt: number, at = now) => {
      const waiting = { names: new Set(['billing/api-1']), byPull, nodes: new Map(), at: listedAt }
      const context = { ...aContext([pull], undefined, at), waiting }
      return concerns([pull], { nodes: [], unobserved: [] }, context, at).length
    }
    expect(problems(new Map(), now - 2000)).toBe(0)
    expect(problems(listed, now - 2000)).toBe(1)
    expect(problems(new Map(), now)).toBe(1)
    expect(problems(new Map(), now - 2000, now + 10_000)).toBe(1)
  })

  it('a failure is a single problem across its nodes and pods, with a cause, advice and the next attempt', () => {
    const all = found([
      failed({ id: 'a', nodeName: 'worker-01', attempt: 4, nextRetryAt: now + 102_000 }),
      failed({ id: 'b', nodeName: 'worker-02', pods: [pod('api-2'), pod('api-3')] }),
    ])
    expect(all).toHaveLength(1)
    expect(all[0]).toMatchObject({
      subject: 'ghcr.io/acme/api:2',
      what: 'cannot be pulled on worker-01, worker-02: unauthorized.',
      advice: 'The pull secret of namespace billing is missing or wrong. 3 pods are waiting.',
      retry: 'Attempt 4 failed; attempt 5 in about 1:40.',
      query: 'image:ghcr.io/acme/api:2 status:failing',
      rowKey: 'failed/ghcr.io/acme/api:2/unauthorized',
    })
  })

  it.each<[ErrorReason, string]>([
    ['not_found', 'check the name in Deployment/api'],
    ['rate_limited', 'ghcr.io rate-limits this cluster'],
    ['timeout', 'cannot reach ghcr.io'],
    ['network', 'DNS, proxy and firewall'],
    ['tls', 'certs.d'],
    ['disk_full', 'is full'],
    ['invalid_reference', 'Correct the image’s name in Deployment/api'],
    ['server_error', 'server errors'],
  ])('with reason %s comes with advice', (errorReason, words) => {
    expect(found([failed({ errorReason })])[0]?.advice).toContain(words)
  })

  it('an open row gives the same advice as the strip', () => {
    const pull = failed()
    expect(advice([pull], aContext([pull]))).toBe('The pull secret of namespace billing is missing or wrong.')
    const odd = failed({ errorReason: 'unknown', error: 'odd thing' })
    expect(advice([odd], aContext([odd]))).toBe('')
  })

  it('a failure with an unknown reason shows the first line of the error', () => {
    const [first] = found([failed({ errorReason: 'unknown', error: 'odd thing\nstack' })])
    expect(first?.advice).toMatch(/^Odd thing\. 1 pod is waiting/)
  })

  it('counts only the pods that are waiting now', () => {
    const pulls = [failed({ completedAt: T0, pods: [pod('api-1'), pod('api-2')] })]
    expect(found(pulls, ['billing/api-2'])[0]?.advice).toContain('1 pod is waiting.')
    expect(found(pulls, [])).toEqual([])
  })

  it('a failure is not a problem once a later pull on the node has started', () => {
    const later = aPull({
      id: 'b',
      imageRef: 'ghcr.io/acme/api:2',
      startedAt: T0 + 9000,
      status: 'completed',
    })
    expect(found([failed(), later])).toEqual([])
  })

  it('a failure with pull policy Never has special advice and does not show attempts', () => {
    const never = aPod('api-1', { waitingReason: 'ErrImageNeverPull' })
    const pull = failed({ errorReason: 'not_found', attempt: 28, pods: [never] })
    const [first] = found([pull])
    expect(first?.advice).toContain('imagePullPolicy is Never')
    expect(first?.advice).not.toContain('Attempt')
    expect(isNotTried(pull)).toBe(true)
    expect(isNotTried(failed({ errorReason: 'invalid_reference' }))).toBe(true)
    expect(isNotTried(failed())).toBe(false)
  })

  it('failures of many images from one registry count as one problem', () => {
    const pulls = ['a', 'b', 'c', 'd'].map((name, n) =>
      failed({ id: name, nodeName: `n${n}`, imageRef: `r.local/${name}:1`, errorReason: 'timeout' }),
    )
    const all = found(pulls)
    expect(all).toHaveLength(1)
    expect(all[0]).toMatchObject({
      subject: 'r.local',
      what: ': 4 images cannot be pulled on 4 nodes: timed out.',
      query: 'registry:r.local status:failing',
    })
  })
})

it('problems that somebody has to fix are listed first', () => {
  const reasons = ['unknown', 'timeout', 'tls', 'not_found', 'unauthorized'] as const
  const pulls = [
    aPull({ id: 'c', imageRef: 'r/c:1', status: 'failed', errorReason: 'canceled', pods: [pod('x')] }),
    aPull({ id: 's', imageRef: 'r/s:1', stalledSince: T0 }),
    ...reasons.map(errorReason => failed({ id: errorReason, imageRef: `r/${errorReason}:1`, errorReason })),
  ]
  expect(found(pulls).map(({ subject }) => subject)).toEqual([
    'r/unauthorized:1',
    'r/not_found:1',
    'r/tls:1',
    'r/timeout:1',
    'r/unknown:1',
    'r/s:1',
    'r/c:1',
  ])
})

it('the strip includes a cancelled pull only while a pod is waiting for it', () => {
  const pull = failed({ errorReason: 'canceled', percent: 38.2 })
  expect(found([pull])[0]).toMatchObject({
    kind: 'cancelled',
    what: 'was cancelled on worker-01 at 38 %.',
    advice: 'The kubelet tries again by itself. 1 pod is waiting.',
  })
  expect(found([{ ...pull, pods: [] }])).toEqual([])
})

describe('a stalled pull', () => {
  const stalled = aPull({
    imageRef: 'r.local/a:1',
    stalledSince: now - 48_000,
    percent: 41.9,
    nodeName: 'gpu-02',
  })

  it('shows how long a pull has been stalled, and blames the node while the registry serves other pulls', () => {
    const other = aPull({ id: 'b', imageRef: 'r.local/b:1', bytesPerSec: 300_000 })
    expect(found([stalled, other])[0]).toMatchObject({
      what: 'has received no bytes for 48 s on gpu-02 (41 %).',
      advice: 'r.local serves other pulls at 300 kB/s: check the node’s network.',
    })
  })

  it('does not blame the node for a stall if the node has received another image since', () => {
    const other = aPull({ id: 'b', imageRef: 'r.local/b:1', bytesPerSec: 300_000 })
    const words =
      'r.local serves other pulls at 300 kB/s, and the node receives other images: only the connection of this pull is affected.'
    const done = { status: 'completed', imageRef: 'r/c:1', nodeName: 'gpu-02' } as const
    const advice = (downloadedAt: number) =>
      found([stalled, other, aPull({ id: 'c', ...done, downloadedAt, completedAt: now })])[0]?.advice
    expect(advice(now - 40_000)).toBe(words)
    expect(advice(now - 50_000)).toContain('check the node’s network')
    expect(found([stalled, { ...other, nodeName: 'gpu-02' }])[0]?.advice).toBe(words)
  })

  it('a stall is blamed on the registry when no pull from this registry makes progress', () => {
    const other = { ...stalled, id: 'b', imageRef: 'r.local/b:1' }
    expect(found([stalled, other])[0]?.advice).toBe('No pull from r.local receives data: check the registry.')
  })

  it('blames neither the node nor the registry for a stall when there is no other pull', () => {
    expect(found([stalled])[0]?.advice).toBe('')
  })
})

it('the strip includes a pull that blocks a queue for a minute although no pod is waiting for it', () => {
  const bound = { by: 'queue', why: '', figures: {} } as const
  const queued = aPull({ id: 'b', status: 'queued', bound, startedAt: T0 + 1 })
  const blocks = aPull({ etaSeconds: 90, updatedAt: now })
  expect(found([blocks, queued])).toMatchObject([
    {
      subject: blocks.imageRef,
      what: 'blocks the queue of worker-01. No pod waits for it; 1 pull queues behind it.',
      advice: expect.stringContaining('It will probably end in 1:30. The kubelet does not cancel it;'),
      rowKey: blocks.id,
    },
  ])
  const ending = { ...blocks, etaSeconds: 0 }
  expect(found([ending, queued])[0]?.advice).toContain('It will probably end at any moment.')
  const spared = [
    { ...blocks, startedAt: T0 + 1 },
    { ...blocks, pods: [pod('api-1')] },
  ]
  expect(spared.flatMap(pull => found([pull, queued]))).toEqual([])
  // The list of pods, which may be older than the stream, still contains a pod that waits for the pull.
  const context = aContext([blocks, queued], [], now)
  const nobody = { nodes: [], unobserved: [] }
  const words = (node: string, id: string, pulls: readonly Pull[]) => {
    const byPull = new Map([[id, ['shop/api-1']]])
    const waiting = { names: new Set(['shop/api-1']), byPull, nodes: new Map([[id, node]]), at: now }
    return concerns(pulls, nobody, { ...context, waiting }, now)[0]?.what
  }
  expect(words('worker-01', blocks.id, [blocks, queued])).toBeUndefined()
  const behindDeleted = { ...queued, bound: { ...bound, figures: { deletedPodsAhead: 2 } } }
  expect(words('worker-01', 'deleted', [blocks, behindDeleted])).toContain(
    '3 pulls queue behind it, 1 of them',
  )
  expect(words('worker-02', 'deleted', [blocks, behindDeleted])).toContain(
    '3 pulls queue behind it, 2 of them',
  )
})

it('the strip includes a pull on a node without an agent', () => {
  expect(found([aPull({ status: 'unobserved' })])[0]).toMatchObject({
    kind: 'unobserved',
    what: 'is being pulled on worker-01, where no agent reports.',
  })
})

it('the strip lists the nodes without an agent if the server lists them', () => {
  const pulls = [aPull({ status: 'unobserved' })]
  const unobserved = [{ count: 1, names: ['worker-9'], reason: 'no agent has reported from it' }]
  const all = concerns(pulls, { nodes: [], unobserved }, aContext(pulls), now)
  expect(all).toHaveLength(1)
  expect(all[0]).toMatchObject({
    kind: 'unobserved',
    subject: 'worker-9',
    what: ': pods are waiting for images there, but no agent has reported from it.',
    query: 'node:worker-9',
  })
})

it('the strip includes agents that do not report', () => {
  const node = {
    name: 'n1',
    state: 'lost',
    agentVersion: '',
    containerdVersion: '',
    snapshotter: '',
    lastSeen: now - 180_000,
    activePulls: 0,
    bytesPerSec: 0,
  } as const
  expect(found([], undefined, [node, { ...node, name: 'n2', state: 'late' }])).toMatchObject([
    { kind: 'lost', subject: 'n1' },
  ])
})

it('a failure shows how long it has lasted, and a group shows the longest time', () => {
  const now = T0 + 20 * 60_000
  const one = aPull({ id: 'a', failingSince: T0 + 8 * 60_000 })
  const other = aPull({ id: 'b', failingSince: T0 + 15 * 60_000 })
  expect(failingWords([other, one, aPull()], aContext([other, one]), now)).toMatch(
    /^failing for 12 min, since \d\d:\d\d$/,
  )
  expect(failingWords([aPull()], aContext([]), now)).toBe('')
})

describe('the next attempt', () => {
  const retried = (seconds: number) => aPull({ nextRetryAt: now + seconds * 1000 })

  it('is shown as an approximate time', () => {
    expect(retryWords(retried(38.4), now)).toBe('retry in about 40 s')
    expect(retryWords(retried(72), now)).toBe('retry in about 1:10')
    expect(retryWords(retried(5.2), now)).toBe('retry in about 10 s')
  })

  it('is due once its time has passed, and is empty if no retry is expected', () => {
    expect(retryWords(retried(-1), now)).toBe('retry due')
    expect(retryWords(retried(4.9), now)).toBe('retry due')
    expect(retryWords(aPull(), now)).toBe('')
    expect(retryWords(firstRetry([aPull()]), now)).toBe('')
  })

  it('is the earliest among several pulls', () => {
    const soon = retried(20)
    expect(firstRetry([aPull(), retried(300), soon, retried(40)])).toBe(soon)
  })
})

describe('the time since which an image has been failing', () => {
  const minute = (n: number) => T0 + n * 60_000
  const cart = (nodeName: string, since: number, podName: string, change: Partial<Pull> = {}) =>
    aPull({
      id: nodeName,
      nodeName,
      status: 'failed',
      completedAt: now,
      failingSince: minute(since),
      pods: [aPod(podName, { owner: 'Deployment/cart' })],
      ...change,
    })
  const words = (pull: Pull, ...others: readonly Pull[]) =>
    failingWords([pull], aContext([pull, ...others]), minute(20)).replace(/\d\d:/g, '')
  const pull = cart('n2', 15, 'cart-b')

  it('stays the same when the pod moves to another node', () => {
    const before = cart('n1', 8, 'cart-a', { pods: [], waited: pull.pods })
    expect(words(pull, before)).toBe('failing for 12 min, since 08 (on 2 nodes), on n2 since 15')
    expect(words(before, pull)).toBe('failing for 12 min, since 08 (on 2 nodes)')
  })

  it('differs between owners and between images', () => {
    const other = cart('n1', 8, 'web-a', { pods: [aPod('web-a', { owner: 'Deployment/web' })] })
    expect(words(pull, other)).toBe('failing for 5 min, since 15')
    expect(words(pull, cart('n1', 8, 'cart-a', { imageRef: 'redis' }))).toBe('failing for 5 min, since 15')
    const alone = [aPod('cart-a', { owner: undefined })]
    expect(words(pull, cart('n1', 8, 'cart-a', { pods: alone }))).toBe('failing for 5 min, since 15')
  })

  it('is later if any node has pulled the image in the meantime', () => {
    const done = cart('n3', 0, 'cart-c', {
      status: 'completed',
      completedAt: minute(10),
      failingSince: undefined,
    })
    const before = cart('n1', 8, 'cart-a')
    expect(words(pull, before, done)).toBe('failing for 5 min, since 15')
    expect(words(before, pull, done)).toBe('failing for 12 min, since 08 (on 2 nodes)')
  })
})

it('gives the number of a failed attempt unless it is the first one or the pulls of the row differ', () => {
  const pull = aPull({ status: 'failed', errorReason: 'not_found', attempt: 5 })
  expect(failureWords(pull)).toBe('attempt 5: not found')
  expect(failureWords({ ...pull, attempt: 1 })).toBe('not found')
  expect(failureWords(pull, [pull, { ...pull, id: 'b' }])).toBe('attempt 5: not found')
  expect(failureWords(pull, [pull, { ...pull, id: 'b', attempt: 4 }])).toBe('not found')
  expect(failureWords({ ...pull, errorReason: 'invalid_reference' })).toBe('not a valid reference')
  const pods = [aPod('p', { waitingReason: 'ErrImageNeverPull' })]
  expect(failureWords({ ...pull, pods })).toBe('not on the node')
})

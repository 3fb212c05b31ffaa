import { describe, expect, it } from 'vitest'
import { aContext, aPod, aPull, T0 } from '../testing'
import type { ClusterNode, ErrorReason, Pull } from '../wire/wire'
import { concerns, isNotTried } from './attention'

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
  it('a failure is one problem for all its nodes and pods, with cause, advice and next attempt', () => {
    const all = found([
      failed({ id: 'a', nodeName: 'worker-01', attempt: 4, nextRetryAt: now + 102_000 }),
      failed({ id: 'b', nodeName: 'worker-02', pods: [pod('api-2'), pod('api-3')] }),
    ])
    expect(all).toHaveLength(1)
    expect(all[0]).toMatchObject({
      subject: 'ghcr.io/acme/api:2',
      what: 'cannot be pulled on worker-01, worker-02: unauthorized.',
      advice: 'The pull secret of namespace billing is missing or wrong. 3 pods are waiting. Attempt 4.',
      retrySeconds: 102,
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
  ])('with reason %s has advice', (errorReason, words) => {
    expect(found([failed({ errorReason })])[0]?.advice).toContain(words)
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

  it('a failure with pull policy Never has special advice and shows no attempts', () => {
    const never = aPod('api-1', { waitingReason: 'ErrImageNeverPull' })
    const pull = failed({ errorReason: 'not_found', attempt: 28, pods: [never] })
    const [first] = found([pull])
    expect(first?.advice).toContain('imagePullPolicy is Never')
    expect(first?.advice).not.toContain('Attempt')
    expect(isNotTried(pull)).toBe(true)
    expect(isNotTried(failed({ errorReason: 'invalid_reference' }))).toBe(true)
    expect(isNotTried(failed())).toBe(false)
  })

  it('failures of many images from one registry are one problem', () => {
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

it('a problem is listed first if somebody has to fix it', () => {
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

it('the strip includes a cancelled pull only while a pod waits for it', () => {
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

  it('a stalled pull shows its duration, and blames the node while the registry serves other pulls', () => {
    const other = aPull({ id: 'b', imageRef: 'r.local/b:1', bytesPerSec: 300_000 })
    expect(found([stalled, other])[0]).toMatchObject({
      what: 'has received no bytes for 48 s on gpu-02 (41 %).',
      advice: 'r.local serves other pulls at 300 kB/s: check the node’s network.',
    })
  })

  it('a stalled pull blames the registry when no pull from this registry makes progress', () => {
    const other = { ...stalled, id: 'b', imageRef: 'r.local/b:1' }
    expect(found([stalled, other])[0]?.advice).toBe('No pull from r.local receives data: check the registry.')
  })

  it('a stalled pull blames neither node nor registry when there is no other pull', () => {
    expect(found([stalled])[0]?.advice).toBe('')
  })
})

it('the strip includes a pull on a node without an agent', () => {
  expect(found([aPull({ status: 'unobserved' })])[0]).toMatchObject({
    kind: 'unobserved',
    what: 'is being pulled on worker-01, where no agent reports.',
  })
})

it('the strip lists the nodes without an agent when the server does', () => {
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

import { describe, expect, it } from 'vitest'
import { concerns } from './attention'
import { aPull, T0 } from './testing'
import type { ErrorReason, PodRef, Pull } from './wire'

const now = T0 + 60_000
const pod = (podName: string, namespace = 'billing'): PodRef => ({
  namespace,
  podName,
  container: 'c',
  image: '',
  owner: `Deployment/${podName.slice(0, 3)}`,
  waitingReason: undefined,
})
const failed = (change: Partial<Pull> = {}) =>
  aPull({
    status: 'failed',
    errorReason: 'unauthorized',
    completedAt: now,
    imageRef: 'ghcr.io/acme/api:2',
    pods: [pod('api-1')],
    ...change,
  })

it('is silent while all is well', () => {
  expect(concerns([aPull(), aPull({ id: 'b', status: 'completed' })], [], now)).toEqual([])
})

describe('a failure', () => {
  it('is told once for all its nodes and pods, with cause, advice and next try', () => {
    const found = concerns(
      [
        failed({ id: 'a', nodeName: 'worker-01', attempt: 4, nextRetryAt: now + 102_000 }),
        failed({ id: 'b', nodeName: 'worker-02', pods: [pod('api-2'), pod('api-3')] }),
      ],
      [],
      now,
    )
    expect(found).toHaveLength(1)
    expect(found[0]).toMatchObject({
      subject: 'ghcr.io/acme/api:2',
      what: 'cannot be pulled on worker-01, worker-02: unauthorized.',
      advice: 'The pull secret of namespace billing is missing or wrong. 3 pods wait; attempt 4.',
      retrySeconds: 102,
      query: 'image:ghcr.io/acme/api:2 status:failed',
    })
  })

  it.each<[ErrorReason, string]>([
    ['not_found', 'check the name in Deployment/api'],
    ['rate_limited', 'ghcr.io limits this cluster'],
    ['timeout', 'does not get through to ghcr.io'],
    ['network', 'DNS, proxy and firewall'],
    ['tls', 'certs.d'],
    ['disk_full', 'no room left'],
    ['invalid_reference', 'Correct the image’s name in Deployment/api'],
    ['canceled', 'tries again while a pod waits'],
    ['server_error', 'errors of its own'],
  ])('of kind %s comes with advice', (errorReason, words) => {
    expect(concerns([failed({ errorReason })], [], now)[0]?.advice).toContain(words)
  })

  it('of unknown kind shows the first line of what is known', () => {
    expect(
      concerns([failed({ errorReason: 'unknown', error: 'odd thing\nstack' })], [], now)[0]?.advice,
    ).toMatch(/^Odd thing\. 1 pod waits/)
  })

  it('that nobody waits for is news for five minutes', () => {
    const old = failed({ pods: [], completedAt: now - 6 * 60_000 })
    expect(concerns([old], [], now)).toEqual([])
    expect(concerns([{ ...old, completedAt: now - 60_000 }], [], now)).toHaveLength(1)
  })

  it('that somebody wanted is none', () => {
    expect(concerns([failed({ pods: [], errorReason: 'canceled' })], [], now)).toEqual([])
  })
})

describe('a stalled pull', () => {
  const stalled = aPull({
    imageRef: 'r.local/a:1',
    stalledSince: now - 48_000,
    percent: 41.9,
    nodeName: 'gpu-02',
  })

  it('says since when, and blames the node when the registry answers others', () => {
    const other = aPull({ id: 'b', imageRef: 'r.local/b:1', bytesPerSec: 300_000 })
    expect(concerns([stalled, other], [], now)[0]).toMatchObject({
      what: 'has not moved for 48 s on gpu-02 (41 %).',
      advice: 'r.local answers other pulls at 300 kB/s: look at the node’s network.',
    })
  })

  it('blames the registry when nothing from it moves', () => {
    const other = { ...stalled, id: 'b', imageRef: 'r.local/b:1' }
    expect(concerns([stalled, other], [], now)[0]?.advice).toBe(
      'No pull from r.local moves: look at the registry.',
    )
  })

  it('blames nobody when it is alone', () => {
    expect(concerns([stalled], [], now)[0]?.advice).toBe('')
  })
})

it('tells of silent agents', () => {
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
  expect(concerns([], [node, { ...node, name: 'n2', state: 'late' }], now)).toMatchObject([
    { kind: 'lost', subject: 'n1' },
  ])
})

import { describe, expect, it } from 'vitest'
import { aContext, aPod, aPull, T0 } from '../testing'
import { type Pull, parsePodList } from '../wire/wire'
import { contextOf, countStates, isRetry, standing, waiterCount, waitersOf, waitingPods } from './standing'

const failed = (change: Partial<Pull> = {}) =>
  aPull({ status: 'failed', errorReason: 'not_found', completedAt: T0 + 1000, pods: [aPod('p')], ...change })
const standingOf = (pull: Pull, waiting?: readonly string[], others: readonly Pull[] = []) =>
  standing(pull, aContext([pull, ...others], waiting))

describe('a pull', () => {
  it.each([
    ['live while it is in progress', aPull(), [], 'live'],
    ['past once it is complete', aPull({ status: 'completed' }), [], 'past'],
    ['failing while its pod waits', failed(), ['shop/p'], 'failing'],
    ['past when its pod no longer waits', failed(), [], 'past'],
    ['failing when it ended after the list was made', failed({ completedAt: T0 + 90_000 }), [], 'failing'],
    ['live when it was cancelled and its pod waits', failed({ errorReason: 'canceled' }), ['shop/p'], 'live'],
    ['past when it was cancelled and no pod waits', failed({ errorReason: 'canceled' }), [], 'past'],
  ] as const)('is %s', (_, pull, waiting, expected) => {
    expect(standingOf(pull, waiting)).toBe(expected)
  })

  it('a pull is history once a later pull of the image on the node has started', () => {
    const later = aPull({ id: 'b', startedAt: T0 + 2000 })
    expect(standingOf(failed(), ['shop/p'], [later])).toBe('past')
    expect(standingOf(failed(), ['shop/p'], [{ ...later, nodeName: 'other' }])).toBe('failing')
  })

  it('a failed pull counts as current for five minutes while the server cannot see pods', () => {
    const alone = failed({ pods: [] })
    expect(standing(alone, aContext([alone], undefined, T0 + 61_000))).toBe('failing')
    expect(standing(alone, aContext([alone], undefined, T0 + 302_000))).toBe('past')
    expect(standingOf({ ...alone, nextRetryAt: T0 })).toBe('failing')
  })
})

it('counts each waiting pod once', () => {
  const pulls = [failed({ pods: [aPod('p'), aPod('q')] }), failed({ id: 'b', pods: [aPod('p')] })]
  expect(waiterCount(pulls, aContext(pulls, ['shop/p', 'shop/q']))).toBe(2)
  expect(waiterCount(pulls, aContext(pulls, ['shop/p']))).toBe(1)
})

it('uses the pods in the stream for a live pull', () => {
  const pull = aPull({ pods: [aPod('p')] })
  expect(waitersOf(pull, aContext([pull], []))).toHaveLength(1)
})

it('does not count started pods as waiting', () => {
  const started = { namespace: 'shop', podName: 'q', seconds: 9 }
  const list = parsePodList({
    pods: [{ namespace: 'shop', podName: 'p' }],
    started: [started],
    watching: true,
  })
  expect([...(waitingPods(list, T0)?.names ?? [])]).toEqual(['shop/p'])
})

it('the waiting pods are unknown without a list of pods', () => {
  expect(waitingPods('missing', T0)).toBeUndefined()
  expect(waitingPods(undefined, T0)).toBeUndefined()
  expect(waitingPods(parsePodList({ pods: [], watching: false }), T0)).toBeUndefined()
})

it('counts failures that a pod is waiting for, but no cancelled pulls', () => {
  const pulls = [
    failed({ id: 'now', nodeName: 'n1' }),
    failed({ id: 'old', nodeName: 'n2', pods: [aPod('gone')] }),
    failed({ id: 'cancelled', nodeName: 'n3', errorReason: 'canceled' }),
    aPull({ id: 'stalled', nodeName: 'n4', stalledSince: T0 }),
    aPull({ id: 'resolving', nodeName: 'n5', status: 'resolving' }),
    aPull({ id: 'extracting', nodeName: 'n6', status: 'extracting' }),
  ]
  expect(countStates(pulls, aContext(pulls, ['shop/p']))).toEqual({
    queued: 0,
    downloading: 2,
    extracting: 1,
    failed: 1,
    done: 0,
    stalled: 1,
  })
})

it('a pull counts as a retry until its first byte arrives', () => {
  expect(isRetry(aPull({ attempt: 2, status: 'resolving' }))).toBe(true)
  expect(isRetry(aPull({ attempt: 2, status: 'downloading', downloadedBytes: 5 }))).toBe(false)
  expect(isRetry(aPull({ status: 'queued' }))).toBe(false)
})

it('the context is empty without pulls', () => {
  expect(contextOf([], undefined, T0).newest.size).toBe(0)
})

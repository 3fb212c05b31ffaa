import { describe, expect, it } from 'vitest'
import { aContext, anAttempt, aPod, aPull, T0 } from '../testing'
import { type Attempt, type Pull, parsePodList } from '../wire/wire'
import { isRetry, stateWord } from './pullState'
import {
  contextOf,
  countStates,
  firstDone,
  listedWaiterCount,
  standing,
  waitedNames,
  waiterCount,
  waitersOf,
  waitingPods,
} from './standing'

const failed = (change: Partial<Pull> = {}) =>
  aPull({ status: 'failed', errorReason: 'not_found', completedAt: T0 + 1000, pods: [aPod('p')], ...change })
const standingOf = (pull: Pull, waiting?: readonly string[], others: readonly Pull[] = []) =>
  standing(pull, aContext([pull, ...others], waiting))

describe('a pull', () => {
  it.each([
    ['live while it is in progress', aPull(), [], 'live'],
    ['past once it is complete', aPull({ status: 'completed' }), [], 'past'],
    ['failing while its pod is waiting', failed(), ['shop/p'], 'failing'],
    ['past when its pod no longer waits', failed(), [], 'past'],
    ['failing when it ended after the list was made', failed({ completedAt: T0 + 90_000 }), [], 'failing'],
    ['live when cancelled while its pod is waiting', failed({ errorReason: 'canceled' }), ['shop/p'], 'live'],
    ['past when cancelled while no pod is waiting', failed({ errorReason: 'canceled' }), [], 'past'],
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

it('the strip counts the pods that the Pods view shows, even if the stream already names another pod', () => {
  const pulls = [failed({ pods: [aPod('p'), aPod('new')], completedAt: T0 + 1000 })]
  const list = parsePodList({
    pods: [
      {
        namespace: 'shop',
        podName: 'p',
        containers: [{ container: 'c', image: 'x', pullId: 'a', state: 'failed' }],
      },
    ],
    watching: true,
  })
  const context = contextOf(pulls, waitingPods(list, T0), T0 + 2000)
  expect(waiterCount(pulls, context)).toBe(2)
  expect(listedWaiterCount(pulls, context)).toBe(1)
  expect(listedWaiterCount(pulls, aContext(pulls))).toBe(2)
})

it('the retry of a cancelled attempt is not failing, even if an attempt before it failed', () => {
  const retry = aPull({ status: 'queued', attempt: 3, failingSince: T0, pods: [aPod('p')] })
  const after = (errorReason: Attempt['errorReason']) => ({
    ...retry,
    earlier: [anAttempt(), anAttempt({ attempt: 2, errorReason })],
  })
  expect(standing(after('not_found'), aContext([], ['shop/p']))).toBe('failing')
  expect(standing(after('canceled'), aContext([], ['shop/p']))).toBe('live')
})

it('takes the pods of a live pull from the stream', () => {
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

it('the number of waiting pods is unknown until the pods have been listed', () => {
  expect(waitingPods('missing', T0)).toBeUndefined()
  expect(waitingPods(undefined, T0)).toBeUndefined()
  expect(waitingPods(parsePodList({ pods: [], watching: false }), T0)).toBeUndefined()
})

it('counts failures that a pod is waiting for, but not cancelled pulls', () => {
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

it('an image that is tried again counts as failing until its first byte arrives', () => {
  const retry = aPull({ status: 'resolving', attempt: 2, earlier: [anAttempt()], pods: [aPod('p')] })
  expect(standingOf(retry, ['shop/p'])).toBe('failing')
  expect(countStates([retry], aContext([retry], ['shop/p']))).toMatchObject({ failed: 1, downloading: 0 })
  expect(standingOf({ ...retry, downloadedBytes: 5 }, ['shop/p'])).toBe('live')
  const cancelled = [anAttempt({ errorReason: 'canceled' })]
  expect(standingOf({ ...retry, earlier: cancelled }, ['shop/p'])).toBe('live')
})

it('another attempt counts as a retry until its first byte arrives', () => {
  expect(isRetry(aPull({ attempt: 2, status: 'resolving' }))).toBe(true)
  expect(isRetry(aPull({ attempt: 2, status: 'downloading', downloadedBytes: 5 }))).toBe(false)
  expect(isRetry(aPull({ status: 'queued' }))).toBe(false)
})

it('a queued attempt after another one is called a retry', () => {
  expect(stateWord(aPull({ attempt: 2, status: 'queued', failingSince: T0 }))).toBe('Retry queued')
  expect(stateWord(aPull({ attempt: 2, status: 'resolving' }))).toBe('Failed')
  expect(stateWord(aPull({ status: 'queued' }))).toBe('Queued')
  // The earlier attempt was cancelled.
  expect(stateWord(aPull({ attempt: 2, status: 'queued' }))).toBe('Queued')
})

it('names the pods that waited for a pull, with their owners, whether or not the pull has changed since', () => {
  const owned = aPod('cart-0', { owner: 'Deployment/cart' })
  const waits = aPod('cart-1')
  const pull = aPull({
    status: 'failed',
    errorReason: 'canceled',
    completedAt: T0,
    waited: [owned],
    pods: [waits, aPod('left')],
  })
  const context = aContext([pull], ['shop/cart-1'])
  expect(waitedNames(pull, context)).toBe('shop/cart-0 (Deployment/cart), shop/left')
  const many = aPull({ waited: ['a', 'b', 'c', 'd', 'e'].map(name => aPod(name)) })
  expect(waitedNames(many, context)).toBe('shop/a, shop/b, shop/c and 2 more')
  expect(waitedNames(aPull(), context)).toBe('')
})

it('the count of completed pulls covers the time since the first of them ended', () => {
  const ended = (id: string, completedAt: number) => aPull({ id, status: 'completed', completedAt })
  const failed = aPull({ status: 'failed', completedAt: T0 })
  expect(firstDone([failed, aPull(), ended('b', T0 + 9), ended('c', T0 + 5)])).toBe(T0 + 5)
  expect(firstDone([failed, aPull()])).toBeUndefined()
})

it('the context is empty without pulls', () => {
  expect(contextOf([], undefined, T0).newest.size).toBe(0)
})

it('a queued retry of a failed pull counts as queued and as failing while a pod is waiting for it', () => {
  const retry = aPull({ status: 'queued', attempt: 4, failingSince: T0, pods: [aPod('p')] })
  const behind = { ...retry, bound: { by: 'queue', why: '', figures: {} } } as const
  for (const pull of [retry, behind]) {
    expect(standing(pull, aContext([pull], ['shop/p']))).toBe('failing')
    expect(countStates([pull], aContext([pull], ['shop/p'])).failed).toBe(1)
  }
  expect(countStates([behind], aContext([behind], ['shop/p']))).toMatchObject({ queued: 1, failed: 1 })
  const arriving = { ...behind, status: 'downloading', downloadedBytes: 1 } as const
  expect(standing(arriving, aContext([arriving], ['shop/p']))).toBe('live')
  const cancelled = { ...behind, failingSince: undefined }
  expect(standing(cancelled, aContext([cancelled], ['shop/p']))).toBe('live')
})

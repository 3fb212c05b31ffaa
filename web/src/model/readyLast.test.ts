import { expect, it } from 'vitest'
import { aContainer, aListedPod, aPull, aQueue, around, T0 } from '../testing'
import { type PodRow, podRow } from './podRows'
import { readyLast } from './readyLast'

it('names the last of the queued pods', () => {
  const { all, waits } = aQueue()
  const rows = ['e', 'd', 'c', 'b'].map(id => waits(id))
  const found = (...more: readonly PodRow[]) => {
    const last = readyLast([...rows, ...more])
    return last && [last.row.pod.podName, last.seconds, last.isBound, last.blind, last.stuck]
  }
  expect(found()).toEqual(['e', 765, true, 1, 0])
  const failed = podRow(aListedPod(aContainer({ state: 'failed' })), all)
  const blind = podRow(aListedPod(aContainer({ state: 'downloading' })), all)
  expect(found(failed, blind, waits('b', { tookSeconds: 900 }))).toEqual(['e', 765, true, 2, 1])
  expect(readyLast([waits('b'), waits('c')])).toMatchObject({
    row: { key: waits('c').key },
    seconds: 725,
    isBound: false,
  })
  expect(readyLast([waits('b'), failed])).toBeUndefined()
  expect(readyLast([blind, blind])).toBeUndefined()
})

it('names the same image as the last until another image takes clearly longer', () => {
  const waits = (image: string, etaSeconds: number | undefined, nodeName = 'n') =>
    podRow({ ...aListedPod(aContainer({ image, state: 'downloading', etaSeconds })), nodeName }, around())
  const last = (before: string | undefined, ...rows: readonly PodRow[]) => {
    const found = readyLast(rows, before)
    return found && [found.key, found.pods, found.blind]
  }
  const rows = [waits('a', 100), waits('a', 100), waits('a', 100, 'm'), waits('b', 105)]
  expect(last(undefined, ...rows)).toEqual(['b n', 1, 0])
  expect(last('a n', ...rows)).toEqual(['a n', 2, 0])
  expect(last('a n', ...rows, waits('b', 109))).toEqual(['a n', 2, 0])
  expect(last('a n', ...rows, waits('b', 115))).toEqual(['b n', 2, 0])
  expect(last('gone n', ...rows, waits('c', undefined))).toEqual(['b n', 1, 1])
})

it('names the image that is queued last on a node, even if it was another image before', () => {
  const queue = ['a', 'b'].map((id, at) =>
    aPull({ id, imageRef: id, status: 'queued', usualSeconds: 1, startedAt: T0 + at + 1 }),
  )
  const all = around(aPull({ etaSeconds: 300 }), ...queue)
  const rows = ['a', 'b'].map(id =>
    podRow(aListedPod(aContainer({ pullId: id, image: id, state: 'queued' })), all),
  )
  expect(readyLast(rows, 'a n')?.key).toBe('b n')
})

it('does not name a queued image whose estimate is based on other images or nodes', () => {
  const usual = { status: 'queued', usualSeconds: 900, usualBasis: 'node' } as const
  const all = around(aPull(), aPull({ id: 'q', ...usual, startedAt: T0 + 1 }))
  const rough = podRow(aListedPod(aContainer({ pullId: 'q', state: 'queued' })), all)
  const firm = podRow(aListedPod(aContainer({ image: 'b', state: 'downloading', etaSeconds: 10 })), around())
  expect(readyLast([rough, firm])).toMatchObject({ key: 'b n', blind: 1 })
  expect(readyLast([rough, rough])).toBeUndefined()
})

it('a pod that has all its images is neither blind nor the last to be ready', () => {
  const ready = podRow(aListedPod(aContainer({ state: 'completed' })), around())
  const waits = podRow(aListedPod(aContainer({ state: 'downloading' })), around())
  expect(readyLast([ready, { ...waits, etaSeconds: 5 }, { ...waits, etaSeconds: 9 }])).toMatchObject({
    row: { etaSeconds: 9 },
    blind: 0,
    stuck: 0,
  })
})

it('counts only pods that are ready last, not those that need no further image', () => {
  const running = aContainer({ image: 'a', state: 'downloading', etaSeconds: 100 })
  const alone = podRow(aListedPod(running), around())
  const two = ['b', 'c'].map(image => podRow(aListedPod(running, aContainer({ image })), around()))
  expect(readyLast([alone, ...two])).toMatchObject({ pods: 2, isNextShared: false })
  expect(readyLast([alone, alone])).toMatchObject({ pods: 2 })
})

it('does not say that a pod needs a further image because other pods with the same image do', () => {
  const running = aContainer({ image: 'a', state: 'downloading', etaSeconds: 20 })
  const alone = podRow(aListedPod(running), around())
  const other = podRow(aListedPod(running, aContainer({ image: 'b' })), around())
  // The lower bound of the other pod is too low to be shown, so this pod may be ready later.
  expect(readyLast([alone, other])).toMatchObject({ row: alone, pods: 1, isNextShared: true, blind: 1 })
})

it('knows whether the pods that are ready last wait for the same image next', () => {
  const running = aContainer({ image: 'a', state: 'downloading', etaSeconds: 100 })
  const waits = (...later: readonly string[]) =>
    podRow(aListedPod(running, ...later.map(image => aContainer({ image }))), around())
  const isShared = (...rows: readonly PodRow[]) => readyLast(rows)?.isNextShared
  expect(isShared(waits(), waits())).toBe(true)
  expect(isShared(waits('b'), waits('b'))).toBe(true)
  expect(isShared(waits('b'), waits('c'))).toBe(false)
})

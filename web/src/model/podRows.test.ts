import { expect, it } from 'vitest'
import { aContainer, aListedPod, aPull, aQueue, around, aStartedPod, T0 } from '../testing'
import type { Sort } from '../url/urlState'
import { type Container, parsePodList } from '../wire/wire'
import { ordered } from './order'
import {
  byTrouble,
  hasImages,
  POD_ORDER,
  podFacts,
  podRow,
  podRows,
  startedHeading,
  waitingPodCount,
} from './podRows'
import { matches, parseQuery } from './query'

it('a pod is ready when the last of its images is ready', () => {
  const row = podRow(
    aListedPod(
      aContainer({ state: 'downloading', etaSeconds: 10 }),
      aContainer({ state: 'extracting', etaSeconds: 40 }),
      aContainer({ state: 'completed' }),
    ),
    around(),
  )
  expect(row.etaSeconds).toBe(40)
  expect(row.state).toBe('downloading')
})

it('a pod has no estimate if one of its images has no estimate', () => {
  expect(
    podRow(aListedPod(aContainer({ etaSeconds: 10 }), aContainer({ state: 'queued' })), around()).etaSeconds,
  ).toBeUndefined()
})

it('prefers the stream to the list', () => {
  const listed = aContainer({ pullId: 'a', state: 'downloading', percent: 10, etaSeconds: 90 })
  const done = podRow(aListedPod(listed), around(aPull({ status: 'completed', percent: 100 })))
  expect(done).toMatchObject({ state: 'done', etaSeconds: undefined })
  expect(done.containers[0]?.percent).toBe(100)
})

it('a pod does not count as failed if its failed pull is gone, because the pod was deleted', () => {
  const listed = aContainer({ pullId: 'gone', state: 'failed' })
  expect(podRow(aListedPod(listed), around()).state).toBe('waiting')
})

it('a container has no percentage while the size of its pull is unknown', () => {
  const listed = aContainer({ pullId: 'a', state: 'failed', percent: 0 })
  const row = podRow(aListedPod(listed), around(aPull({ status: 'failed', totalKnown: false })))
  expect(row.containers[0]?.percent).toBeUndefined()
})

it('a pod is found by the image name in its spec and by the image name on the node', () => {
  const row = podRow(aListedPod(aContainer({ image: 'nginx', pullId: 'a' })), around(aPull()))
  for (const query of ['image:docker.io/library/nginx:1.27', 'image:nginx'])
    expect(matches(parseQuery(query), podFacts(row))).toBe(true)
})

it('a pod counts as failed when one container has failed, regardless of the others', () => {
  expect(
    podRow(aListedPod(aContainer({ state: 'downloading' }), aContainer({ state: 'failed' })), around()).state,
  ).toBe('failed')
})

it('counts the waiting pods in the list, or the waiting pods of unfinished pulls if there is no list', () => {
  const who = {
    namespace: 'ml',
    podName: 'p',
    container: 'c',
    image: '',
    owner: undefined,
    waitingReason: undefined,
  }
  const pulls = [
    aPull({ pods: [who, { ...who, container: 'd' }] }),
    aPull({ id: 'b', status: 'completed', pods: [{ ...who, podName: 'q' }] }),
  ]
  expect(waitingPodCount('missing', pulls)).toBe(1)
  expect(waitingPodCount(parsePodList({ pods: [], watching: false }), pulls)).toBe(1)
  expect(waitingPodCount(parsePodList({ pods: [], watching: true }), pulls)).toBe(0)
})

it('a pod without an estimate sorts as the slowest', () => {
  const row = (key: string, etaSeconds?: number) => ({
    ...podRow(
      aListedPod(aContainer({ state: 'queued', ...(etaSeconds !== undefined && { etaSeconds }) })),
      around(),
    ),
    key,
  })
  const rows = () => [row('unknown'), row('slow', 90), row('fast', 3)]
  const keys = (descending: boolean) =>
    ordered(rows(), { column: 'ready', descending }, POD_ORDER, byTrouble).map(({ key }) => key)
  expect(keys(false)).toEqual(['fast', 'slow', 'unknown'])
  expect(keys(true)).toEqual(['unknown', 'slow', 'fast'])
})

it('a pod with an image that is not queued yet sorts as the slowest, and a failed pod sorts first', () => {
  const named = (podName: string, ...containers: readonly Container[]) =>
    podRow({ ...aListedPod(...containers), podName }, around())
  const rows = () => [
    named('later', aContainer({ state: 'downloading', etaSeconds: 5 }), aContainer({ image: 'redis' })),
    named('failed', aContainer({ state: 'failed' })),
    named('queued', aContainer({ state: 'queued' })),
    named('slow', aContainer({ state: 'downloading', etaSeconds: 90 })),
    { ...named('started'), isStarted: true },
  ]
  const names = (descending: boolean | undefined) => {
    const sort = descending === undefined ? undefined : { column: 'ready', descending }
    return ordered(rows(), sort, POD_ORDER, byTrouble).map(({ pod: { podName } }) => podName)
  }
  expect(names(false)).toEqual(['failed', 'slow', 'queued', 'later', 'started'])
  expect(names(true)).toEqual(['failed', 'later', 'queued', 'slow', 'started'])
  expect(names(undefined)).toEqual(['failed', 'slow', 'queued', 'later', 'started'])
  expect(rows()[0]).toMatchObject({
    etaSeconds: undefined,
    etaAtLeast: 5,
    later: [{ container: { image: 'redis' } }],
  })
})

it('a pod whose failed pull is queued again is listed and found with the failing pods', () => {
  const retry = aPull({ id: 'r', status: 'queued', attempt: 2, failingSince: T0, startedAt: T0 + 1 })
  const first = podRow(
    aListedPod(aContainer({ pullId: 'a', state: 'downloading', etaSeconds: 5 })),
    around(aPull()),
  )
  const row = podRow(aListedPod(aContainer({ pullId: 'r', state: 'queued' })), around(aPull(), retry))
  expect([first, row].sort(byTrouble)).toEqual([row, first])
  expect(row).toMatchObject({ state: 'failed', slowest: { place: { position: 1 } } })
  for (const status of ['failing', 'queued'])
    expect(matches(parseQuery(`status:${status}`), podFacts(row))).toBe(true)
})

it('a pod that has its images but has not started is listed before the started pods', () => {
  const named = (podName: string) =>
    podRow({ ...aListedPod(aContainer({ state: 'completed' })), podName }, around())
  const rows = [{ ...named('a-started'), isStarted: true }, named('b-starting')]
  expect(rows.sort(byTrouble).map(({ pod: { podName } }) => podName)).toEqual(['b-starting', 'a-started'])
})

it('a pod shows the place of its image in the queue', () => {
  const queued = aPull({ id: 'q', status: 'queued', startedAt: T0 + 1 })
  const row = podRow(aListedPod(aContainer({ pullId: 'q', state: 'queued' })), around(aPull(), queued))
  expect(row.slowest?.place).toMatchObject({ position: 1, ahead: [{ id: 'a' }] })
})

it('expects queued pods to become ready one after another', () => {
  const { waits } = aQueue()
  const rows = ['e', 'd', 'c', 'b'].map(id => waits(id))
  expect(rows.map(({ etaSeconds, etaAtLeast }) => [etaSeconds, etaAtLeast])).toEqual([
    [undefined, 765],
    [undefined, 725],
    [725, 725],
    [720, 720],
  ])
  const sorted = ordered([...rows], { column: 'ready', descending: true }, POD_ORDER, byTrouble)
  expect(sorted.map(({ pod: { podName } }) => podName)).toEqual(['e', 'd', 'c', 'b'])
})

it('a pod with an image that is not queued yet is ready only after the whole queue has started', () => {
  const running = aPull({ etaSeconds: 60 })
  const queue = [20, 300].map((usualSeconds, at) =>
    aPull({ id: `q${at}`, status: 'queued', usualSeconds, startedAt: T0 + at + 1 }),
  )
  const all = around(running, ...queue)
  const both = {
    ...aListedPod(aContainer({ pullId: 'q0', state: 'queued' }), aContainer({ image: 'redis' })),
  }
  expect(podRow({ ...both, nodeName: 'worker-01' }, all)).toMatchObject({
    etaSeconds: undefined,
    etaAtLeast: 380,
  })
  expect(podRow({ ...both, nodeName: 'worker-01' }, around(running)).etaAtLeast).toBeUndefined()
})

it('a pod that has started is not waiting and sorts last', () => {
  const started = podRow({ ...aListedPod(), tookSeconds: 30 }, around())
  const waits = podRow(aListedPod(aContainer({ state: 'downloading' })), around())
  expect(started).toMatchObject({ isStarted: true, state: 'done', etaSeconds: undefined })
  expect(byTrouble(started, waits)).toBeGreaterThan(0)
})

it('knows whether a pod has all its images', () => {
  const ready = podRow(aListedPod(aContainer({ state: 'completed' })), around())
  expect(hasImages(ready)).toBe(true)
  expect(hasImages(podRow({ ...aListedPod(), tookSeconds: 30 }, around()))).toBe(false)
  const waits = podRow(aListedPod(aContainer({ state: 'downloading' })), around())
  expect(hasImages(waits)).toBe(false)
})

it('lists the pods that started last first, below the waiting pods, and finds them by their state', () => {
  const pods = [aStartedPod('a', T0), aStartedPod('b', T0 + 5000), aListedPod(aContainer({}))]
  const rows = [...podRows(pods, new Map(), T0 + 9000)].sort(byTrouble)
  expect(rows.map(({ pod: { podName } }) => podName)).toEqual(['p', 'b', 'a'])
  const search = parseQuery('status:started')
  expect(rows.map(row => matches(search, podFacts(row)))).toEqual([false, true, true])
})

it('sorts the started pods by how long they waited for images, below the waiting pods', () => {
  const slow = { ...aStartedPod('slow', T0), phases: [{ phase: 'pulling', startedAt: T0, seconds: 200 }] }
  const none = { ...aStartedPod('none', T0 + 5000), waitingSince: undefined, phases: [] }
  const recent = { ...aListedPod(aContainer({})), podName: 'recent', waitingSince: T0 + 2000 }
  const pods = [aStartedPod('quick', T0 + 9000), none, slow, recent, aListedPod(aContainer({}))]
  const sorted = (sort: Sort) => {
    const rows = [...podRows(pods, new Map(), T0 + 9000)]
    return [...ordered(rows, sort, POD_ORDER, byTrouble).map(row => row.pod.podName), startedHeading(sort)]
  }
  const longest = ['p', 'recent', 'slow', 'quick', 'none', 'Started, longest wait for images first']
  expect(sorted({ column: 'waiting', descending: true })).toEqual(longest)
  const shortest = ['recent', 'p', 'quick', 'slow', 'none', 'Started, shortest wait for images first']
  expect(sorted({ column: 'waiting', descending: false })).toEqual(shortest)
  const newest = ['p', 'recent', 'quick', 'none', 'slow', 'Started, newest first']
  expect(sorted({ column: 'ready', descending: true })).toEqual(newest)
  expect(startedHeading({ column: 'pod', descending: false })).toBeUndefined()
})

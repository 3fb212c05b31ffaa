import { expect, it } from 'vitest'
import { anAttempt, aPod, aPull, T0 } from '../testing'
import type { Sort } from '../url/urlState'
import { type Container, type Pod, type Pull, parsePodList } from '../wire/wire'
import { ordered } from './order'
import {
  type Around,
  byTrouble,
  hasImages,
  POD_ORDER,
  type PodRow,
  phaseSteps,
  podFacts,
  podRow,
  podRows,
  readyLast,
  startedHeading,
  startWords,
  waitingPodCount,
} from './podRows'
import { matches, parseQuery } from './query'
import { livePulls } from './queue'

const container = (change: Partial<Container>): Container => ({
  container: 'c',
  image: 'nginx',
  kind: 'app',
  waitingReason: undefined,
  state: 'waiting',
  pullId: undefined,
  percent: undefined,
  etaSeconds: undefined,
  error: undefined,
  ...change,
})

const pod = (...containers: readonly Container[]): Pod => ({
  namespace: 'ml',
  podName: 'p',
  uid: 'u',
  owner: undefined,
  nodeName: 'n',
  waitingSince: T0,
  containers,
  phases: [],
  tookSeconds: undefined,
  startedAt: undefined,
})

const around = (...pulls: readonly Pull[]): Around => ({
  pulls: new Map(pulls.map(pull => [pull.id, pull])),
  live: livePulls(pulls),
  now: T0,
})

it('a pod is ready when the last of its images is ready', () => {
  const row = podRow(
    pod(
      container({ state: 'downloading', etaSeconds: 10 }),
      container({ state: 'extracting', etaSeconds: 40 }),
      container({ state: 'completed' }),
    ),
    around(),
  )
  expect(row.etaSeconds).toBe(40)
  expect(row.state).toBe('downloading')
})

it('a pod has no estimate if one of its images has no estimate', () => {
  expect(
    podRow(pod(container({ etaSeconds: 10 }), container({ state: 'queued' })), around()).etaSeconds,
  ).toBeUndefined()
})

it('prefers the stream to the list', () => {
  const listed = container({ pullId: 'a', state: 'downloading', percent: 10, etaSeconds: 90 })
  const done = podRow(pod(listed), around(aPull({ status: 'completed', percent: 100 })))
  expect(done).toMatchObject({ state: 'done', etaSeconds: undefined })
  expect(done.containers[0]?.percent).toBe(100)
})

it('a pod does not count as failed if its failed pull is gone, because the pod was deleted', () => {
  const listed = container({ pullId: 'gone', state: 'failed' })
  expect(podRow(pod(listed), around()).state).toBe('waiting')
})

it('a container has no percentage while the size of its pull is unknown', () => {
  const listed = container({ pullId: 'a', state: 'failed', percent: 0 })
  const row = podRow(pod(listed), around(aPull({ status: 'failed', totalKnown: false })))
  expect(row.containers[0]?.percent).toBeUndefined()
})

it('a pod is found by the image name in its spec and by the image name on the node', () => {
  const row = podRow(pod(container({ image: 'nginx', pullId: 'a' })), around(aPull()))
  for (const query of ['image:docker.io/library/nginx:1.27', 'image:nginx'])
    expect(matches(parseQuery(query), podFacts(row))).toBe(true)
})

it('a pod counts as failed when one container has failed, regardless of the others', () => {
  expect(
    podRow(pod(container({ state: 'downloading' }), container({ state: 'failed' })), around()).state,
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
    ...podRow(pod(container({ state: 'queued', ...(etaSeconds !== undefined && { etaSeconds }) })), around()),
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
    podRow({ ...pod(...containers), podName }, around())
  const rows = () => [
    named('later', container({ state: 'downloading', etaSeconds: 5 }), container({ image: 'redis' })),
    named('failed', container({ state: 'failed' })),
    named('queued', container({ state: 'queued' })),
    named('slow', container({ state: 'downloading', etaSeconds: 90 })),
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
  const first = podRow(pod(container({ pullId: 'a', state: 'downloading', etaSeconds: 5 })), around(aPull()))
  const row = podRow(pod(container({ pullId: 'r', state: 'queued' })), around(aPull(), retry))
  expect([first, row].sort(byTrouble)).toEqual([row, first])
  expect(row).toMatchObject({ state: 'failed', slowest: { place: { position: 1 } } })
  for (const status of ['failing', 'queued'])
    expect(matches(parseQuery(`status:${status}`), podFacts(row))).toBe(true)
})

it('a pod that has its images but has not started is listed before the started pods', () => {
  const named = (podName: string) => podRow({ ...pod(container({ state: 'completed' })), podName }, around())
  const rows = [{ ...named('a-started'), isStarted: true }, named('b-starting')]
  expect(rows.sort(byTrouble).map(({ pod: { podName } }) => podName)).toEqual(['b-starting', 'a-started'])
})

it('a pod shows the place of its image in the queue', () => {
  const queued = aPull({ id: 'q', status: 'queued', startedAt: T0 + 1 })
  const row = podRow(pod(container({ pullId: 'q', state: 'queued' })), around(aPull(), queued))
  expect(row.slowest?.place).toMatchObject({ position: 1, ahead: [{ id: 'a' }] })
})

it('expects queued pods to become ready one after another, and names the last of them', () => {
  const running = aPull({ etaSeconds: 700 })
  const seconds: Record<string, number | undefined> = { b: 20, c: 5, d: undefined, e: 40 }
  const queue = Object.entries(seconds).map(([id, usualSeconds], at) =>
    aPull({ id, status: 'queued', usualSeconds, startedAt: T0 + at + 1 }),
  )
  const all = around(running, ...queue)
  const waits = (pullId: string, change: Partial<Pod> = {}) =>
    podRow({ ...pod(container({ pullId, image: pullId, state: 'queued' })), podName: pullId, ...change }, all)
  const rows = ['e', 'd', 'c', 'b'].map(id => waits(id))
  expect(rows.map(({ etaSeconds, etaAtLeast }) => [etaSeconds, etaAtLeast])).toEqual([
    [undefined, 765],
    [undefined, 725],
    [725, 725],
    [720, 720],
  ])
  const sorted = ordered([...rows], { column: 'ready', descending: true }, POD_ORDER, byTrouble)
  expect(sorted.map(({ pod: { podName } }) => podName)).toEqual(['e', 'd', 'c', 'b'])
  const found = (...more: readonly PodRow[]) => {
    const last = readyLast([...rows, ...more])
    return last && [last.row.pod.podName, last.seconds, last.isBound, last.blind, last.stuck]
  }
  expect(found()).toEqual(['e', 765, true, 1, 0])
  const failed = podRow(pod(container({ state: 'failed' })), all)
  const blind = podRow(pod(container({ state: 'downloading' })), all)
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
    podRow({ ...pod(container({ image, state: 'downloading', etaSeconds })), nodeName }, around())
  const last = (before: string | undefined, ...rows: readonly PodRow[]) => {
    const found = readyLast(rows, before)
    return found && [found.key, found.pods, found.blind]
  }
  const rows = [waits('a', 100), waits('a', 100), waits('a', 100, 'm'), waits('b', 120)]
  expect(last(undefined, ...rows)).toEqual(['b n', 1, 0])
  expect(last('a n', ...rows)).toEqual(['a n', 2, 0])
  expect(last('a n', ...rows, waits('b', 155))).toEqual(['a n', 2, 0])
  expect(last('a n', ...rows, waits('b', 165))).toEqual(['b n', 2, 0])
  expect(last('gone n', ...rows, waits('c', undefined))).toEqual(['b n', 1, 1])
})

it('does not name a queued image whose estimate is based on other images or nodes', () => {
  const usual = { status: 'queued', usualSeconds: 900, usualBasis: 'node' } as const
  const all = around(aPull(), aPull({ id: 'q', ...usual, startedAt: T0 + 1 }))
  const rough = podRow(pod(container({ pullId: 'q', state: 'queued' })), all)
  const firm = podRow(pod(container({ image: 'b', state: 'downloading', etaSeconds: 10 })), around())
  expect(readyLast([rough, firm])).toMatchObject({ key: 'b n', blind: 1 })
  expect(readyLast([rough, rough])).toBeUndefined()
})

it('a pod with an image that is not queued yet is ready only after the whole queue has started', () => {
  const running = aPull({ etaSeconds: 60 })
  const queue = [20, 300].map((usualSeconds, at) =>
    aPull({ id: `q${at}`, status: 'queued', usualSeconds, startedAt: T0 + at + 1 }),
  )
  const all = around(running, ...queue)
  const both = { ...pod(container({ pullId: 'q0', state: 'queued' }), container({ image: 'redis' })) }
  expect(podRow({ ...both, nodeName: 'worker-01' }, all)).toMatchObject({
    etaSeconds: undefined,
    etaAtLeast: 380,
  })
  expect(podRow({ ...both, nodeName: 'worker-01' }, around(running)).etaAtLeast).toBeUndefined()
})

it('a pod shows the phases of its start-up with their durations', () => {
  const phases = [
    { phase: 'scheduled', startedAt: T0, seconds: 2 },
    { phase: 'pulling', startedAt: T0 + 2000, seconds: undefined },
  ]
  expect(phaseSteps(podRow({ ...pod(), phases }, around()), T0 + 9000).map(({ seconds }) => seconds)).toEqual(
    [2, 7],
  )
  expect(phaseSteps(podRow(pod(), around()), T0)).toEqual([])
})

it('a pod that has started is not waiting and sorts last', () => {
  const started = podRow({ ...pod(), tookSeconds: 30 }, around())
  const waits = podRow(pod(container({ state: 'downloading' })), around())
  expect(started).toMatchObject({ isStarted: true, state: 'done', etaSeconds: undefined })
  expect(byTrouble(started, waits)).toBeGreaterThan(0)
})

it('a pod that has all its images is neither blind nor the last to be ready', () => {
  const ready = podRow(pod(container({ state: 'completed' })), around())
  expect(hasImages(ready)).toBe(true)
  expect(hasImages(podRow({ ...pod(), tookSeconds: 30 }, around()))).toBe(false)
  const waits = podRow(pod(container({ state: 'downloading' })), around())
  expect(hasImages(waits)).toBe(false)
  expect(readyLast([ready, { ...waits, etaSeconds: 5 }, { ...waits, etaSeconds: 9 }])).toMatchObject({
    row: { etaSeconds: 9 },
    blind: 0,
    stuck: 0,
  })
})

const started = (podName: string, at: number): Pod => ({
  ...pod(),
  podName,
  startedAt: at,
  tookSeconds: 90,
  phases: [
    { phase: 'scheduled', startedAt: at - 90_000, seconds: 2 },
    { phase: 'queued', startedAt: at - 88_000, seconds: 84 },
    { phase: 'pulling', startedAt: at - 4000, seconds: 3 },
    { phase: 'started', startedAt: at - 1000, seconds: 1 },
  ],
})

it('lists the pods that started last first, below the waiting pods, and finds them by their state', () => {
  const pods = [started('a', T0), started('b', T0 + 5000), pod(container({}))]
  const rows = [...podRows(pods, new Map(), T0 + 9000)].sort(byTrouble)
  expect(rows.map(({ pod: { podName } }) => podName)).toEqual(['p', 'b', 'a'])
  const search = parseQuery('status:started')
  expect(rows.map(row => matches(search, podFacts(row)))).toEqual([false, true, true])
})

it('sorts the started pods by how long they waited for images, below the waiting pods', () => {
  const slow = { ...started('slow', T0), phases: [{ phase: 'pulling', startedAt: T0, seconds: 200 }] }
  const none = { ...started('none', T0 + 5000), waitingSince: undefined, phases: [] }
  const recent = { ...pod(container({})), podName: 'recent', waitingSince: T0 + 2000 }
  const pods = [started('quick', T0 + 9000), none, slow, recent, pod(container({}))]
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

it('says how long a start took, how much of that time the image and its queue took, and whether attempts failed', () => {
  const pull = aPull({
    status: 'completed',
    attempt: 4,
    waited: [{ ...aPod('a'), namespace: 'ml' }],
  })
  const [quick, late] = podRows([started('b', T0), started('a', T0)], new Map([['a', pull]]), T0)
  expect(quick && startWords(quick)).toBe('took 1:30, 1:27 for the image (1:24 queued)')
  expect(late && startWords(late)).toBe('took 1:30, 1:27 for the image, 3 attempts failed')
  const cancelled = { ...pull, attempt: 2, earlier: [anAttempt({ errorReason: 'canceled' })] }
  const [calm] = podRows([started('a', T0)], new Map([['a', cancelled]]), T0)
  expect(calm && startWords(calm)).toBe('took 1:30, 1:27 for the image (1:24 queued)')
  expect(quick && phaseSteps(quick, T0)[1]?.name).toBe('queued')
  expect(late && phaseSteps(late, T0)[1]?.name).toBe('failing (3 attempts)')
})

it('rounds the phases so that their durations add up to the duration of the start', () => {
  const times = [0, 0.4, 38.3, 38.5]
  const phases = ['scheduled', 'queued', 'pulling'].map((phase, at) => ({
    phase,
    startedAt: T0 + (times[at] ?? 0) * 1000,
    seconds: (times[at + 1] ?? 0) - (times[at] ?? 0),
  }))
  const [row] = podRows([{ ...started('a', T0 + 38_500), tookSeconds: 38.5, phases }], new Map(), T0)
  expect(row && phaseSteps(row, T0).map(({ seconds }) => seconds)).toEqual([0, 38, 1])
  expect(row && startWords(row)).toBe('took 39 s, 39 s for the image (38 s queued)')
})

it('counts only pods that are ready last, not those that need no further image', () => {
  const running = container({ image: 'a', state: 'downloading', etaSeconds: 100 })
  const alone = podRow(pod(running), around())
  const two = ['b', 'c'].map(image => podRow(pod(running, container({ image })), around()))
  expect(readyLast([alone, ...two])).toMatchObject({ pods: 2, isNextShared: false })
  expect(readyLast([alone, alone])).toMatchObject({ pods: 2 })
})

it('does not say that a pod needs a further image because other pods with the same image do', () => {
  const running = container({ image: 'a', state: 'downloading', etaSeconds: 20 })
  const alone = podRow(pod(running), around())
  const other = podRow(pod(running, container({ image: 'b' })), around())
  // The lower bound of the other pod is too low to be shown, so this pod may be ready later.
  expect(readyLast([alone, other])).toMatchObject({ row: alone, pods: 1, isNextShared: true, blind: 1 })
})

it('knows whether the pods that are ready last wait for the same image next', () => {
  const running = container({ image: 'a', state: 'downloading', etaSeconds: 100 })
  const waits = (...later: readonly string[]) =>
    podRow(pod(running, ...later.map(image => container({ image }))), around())
  const isShared = (...rows: readonly PodRow[]) => readyLast(rows)?.isNextShared
  expect(isShared(waits(), waits())).toBe(true)
  expect(isShared(waits('b'), waits('b'))).toBe(true)
  expect(isShared(waits('b'), waits('c'))).toBe(false)
})

import { expect, it } from 'vitest'
import { podFacts, podRow, waitingPodCount } from './podRows'
import { matches, parseQuery } from './query'
import { aPull, T0 } from './testing'
import { type Container, parsePodList, type WaitingPod } from './wire'

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
  errorReason: undefined,
  ...change,
})

const pod = (...containers: readonly Container[]): WaitingPod => ({
  namespace: 'ml',
  podName: 'p',
  uid: 'u',
  owner: undefined,
  nodeName: 'n',
  waitingSince: T0,
  etaSeconds: undefined,
  containers,
})

it('is ready when the longest of its images is', () => {
  const row = podRow(
    pod(
      container({ state: 'downloading', etaSeconds: 10 }),
      container({ state: 'extracting', etaSeconds: 40 }),
      container({ state: 'completed' }),
    ),
    new Map(),
  )
  expect(row.etaSeconds).toBe(40)
  expect(row.state).toBe('downloading')
})

it('has no estimate while one of its images has none', () => {
  expect(
    podRow(pod(container({ etaSeconds: 10 }), container({ state: 'queued' })), new Map()).etaSeconds,
  ).toBeUndefined()
})

it('believes the stream before the list', () => {
  const listed = container({ pullId: 'a', state: 'downloading', percent: 10, etaSeconds: 90 })
  const done = podRow(pod(listed), new Map([['a', aPull({ status: 'completed', percent: 100 })]]))
  expect(done).toMatchObject({ state: 'done', etaSeconds: undefined })
  expect(done.containers[0]?.percent).toBe(100)
})

it('has no percentage of a pull whose size is not known', () => {
  const listed = container({ pullId: 'a', state: 'failed', percent: 0 })
  const row = podRow(pod(listed), new Map([['a', aPull({ status: 'failed', totalKnown: false })]]))
  expect(row.containers[0]?.percent).toBeUndefined()
})

it('is found by its image as the pod names it and as the node does', () => {
  const row = podRow(pod(container({ image: 'nginx', pullId: 'a' })), new Map([['a', aPull()]]))
  for (const query of ['image:docker.io/library/nginx:1.27', 'image:nginx'])
    expect(matches(parseQuery(query), podFacts(row))).toBe(true)
})

it('is failed when one container is, whatever the others do', () => {
  expect(
    podRow(pod(container({ state: 'downloading' }), container({ state: 'failed' })), new Map()).state,
  ).toBe('failed')
})

it('is counted from the list, or from unfinished pulls where there is none', () => {
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

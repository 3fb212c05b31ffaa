import { expect, it } from 'vitest'
import { podRow, waitingPodCount } from './podRows'
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

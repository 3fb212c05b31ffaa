// @vitest-environment happy-dom
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { WorkerEvent } from '../stream/protocol'
import { aPod, aPull, T0 } from '../testing'
import { Store } from './store'

const FIRST_STEP = T0 - 10_000
/** The server's download rates, one for every five seconds. */
let rates: readonly number[] = []
/** The server's list of pulls. */
let pulls: readonly object[] = []

beforeEach(() => {
  vi.useFakeTimers({ now: T0 })
  const history = () => ({
    since: new Date(FIRST_STEP).toISOString(),
    step: 5,
    registries: [{ registry: 'docker.io', bytesPerSec: rates }],
  })
  vi.stubGlobal('fetch', async (address: URL) =>
    Response.json(address.pathname.endsWith('/pulls') ? { pulls } : history()),
  )
})

afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
})

/** A store and a function that delivers events from the worker. */
function opened() {
  const worker = { postMessage: vi.fn(), terminate: vi.fn(), onmessage: undefined as unknown }
  const stream = { worker: worker as unknown as Worker, early: [] }
  const store = new Store('http://host/', stream)
  store.start()
  const send = (...events: readonly WorkerEvent[]) => {
    for (const data of events) stream.worker.onmessage?.({ data } as MessageEvent)
  }
  return { store, send }
}

/** A pull as the server lists it. */
const listed = (id: string) => ({
  id,
  nodeName: 'n',
  imageRef: 'i',
  status: 'downloading',
  startedAt: new Date(T0).toISOString(),
})

const LIVE = { version: '1', time: T0, pulls: 2 }
const HELLO: readonly WorkerEvent[] = [{ kind: 'reset' }, { kind: 'live', hello: LIVE }]
const state = (id: string, isPart: boolean): WorkerEvent => ({
  kind: 'events',
  events: [{ kind: 'changed', timestamp: T0, pull: aPull({ id, bytesPerSec: 7 }) }],
  more: false,
  isPart,
})

it('does not show pulls, counts or rates until the whole state has arrived', async () => {
  const { store, send } = opened()
  send(...HELLO)
  await vi.advanceTimersByTimeAsync(2000)
  send(state('a', true))
  await vi.advanceTimersByTimeAsync(2000)
  expect(store.snapshot()).toMatchObject({ connection: { kind: 'live' }, counts: undefined })
  expect(store.snapshot().pulls.size).toBe(0)
  expect(store.samples()).toEqual([])
  send(state('b', false))
  await vi.advanceTimersByTimeAsync(50)
  expect(store.snapshot().counts?.downloading).toBe(2)
  expect(store.samples().map(sample => sample.rates?.get('docker.io'))).toEqual([14])
  store.stop()
})

it('counts a failure whose pod began to wait after the list of pods was requested', async () => {
  vi.stubGlobal('fetch', async ({ pathname }: URL) =>
    pathname.endsWith('/pods')
      ? Response.json({ watching: true, pods: [] })
      : new Response('', { status: 404 }),
  )
  const { store, send } = opened()
  store.pace({ nodesMs: 0, podsMs: 60_000 })
  send(...HELLO, state('a', false))
  await vi.advanceTimersByTimeAsync(3000)
  const pull = aPull({
    status: 'failed',
    completedAt: T0 + 2000,
    errorReason: 'not_found',
    pods: [aPod('p')],
  })
  send({
    kind: 'events',
    events: [{ kind: 'changed', timestamp: T0 + 2000, pull }],
    more: false,
    isPart: false,
  })
  await vi.advanceTimersByTimeAsync(50)
  expect(store.snapshot().context.waiting?.names.size).toBe(0)
  expect(store.snapshot().counts?.failed).toBe(1)
  store.stop()
})

it('shows the first pulls until the state has arrived, without counts or rates', async () => {
  const { store, send } = opened()
  await store.showFirst(Promise.resolve(Response.json({ pulls: [listed('a')] })))
  send(...HELLO, state('a', true))
  await vi.advanceTimersByTimeAsync(50)
  expect([...(store.snapshot().first?.keys() ?? [])]).toEqual(['a'])
  expect(store.snapshot()).toMatchObject({ counts: undefined, version: 0 })
  expect(store.snapshot().pulls.size).toBe(0)
  expect(store.samples()).toEqual([])
  send(state('b', false))
  await vi.advanceTimersByTimeAsync(50)
  expect(store.snapshot().first).toBeUndefined()
  expect([...store.snapshot().pulls.keys()]).toEqual(['a', 'b'])
  await store.showFirst(Promise.resolve(Response.json({ pulls: [listed('c')] })))
  await vi.advanceTimersByTimeAsync(50)
  expect(store.snapshot().first).toBeUndefined()
  store.stop()
})

it('starts without the first pulls if the response is invalid', async () => {
  const { store } = opened()
  for (const response of [undefined, new Response('<html>'), Response.json({ pulls: 5 })])
    await store.showFirst(Promise.resolve(response))
  expect(store.snapshot().first).toBeUndefined()
  store.stop()
})

it('uses the list if the rest of the state is held back, and the stream once the rest has arrived', async () => {
  const { store, send } = opened()
  pulls = ['a', 'b'].map(listed)
  send(...HELLO, state('a', true))
  await vi.advanceTimersByTimeAsync(3000)
  expect(store.snapshot()).toMatchObject({ connection: { kind: 'live' }, counts: undefined })
  await vi.advanceTimersByTimeAsync(7000)
  expect(store.snapshot().connection.kind).toBe('polling')
  expect(store.snapshot().counts?.downloading).toBe(2)
  send(state('b', false))
  await vi.advanceTimersByTimeAsync(50)
  expect(store.snapshot().connection).toEqual({ kind: 'live' })
  expect(store.snapshot().counts?.downloading).toBe(2)
  store.stop()
})

it('shows an empty state as soon as the server has sent it', async () => {
  const { store, send } = opened()
  send(...HELLO, { kind: 'events', events: [], more: false, isPart: false })
  await vi.advanceTimersByTimeAsync(50)
  expect(store.snapshot().counts?.downloading).toBe(0)
  store.stop()
})

it('takes the chart step in which the page was opened from the server’s next history', async () => {
  rates = [3, 4]
  const { store, send } = opened()
  await vi.advanceTimersByTimeAsync(3000)
  send(...HELLO, state('a', true), state('b', false))
  await vi.advanceTimersByTimeAsync(500)
  const shown = () =>
    store.samples().map(({ at, rates: of }) => [Math.floor((at - T0) / 1000), of?.get('docker.io')])
  const before = shown()
  expect(before.slice(0, 2)).toEqual([
    [-10, 3],
    [-5, 4],
  ])
  expect(before.slice(2).every(([, rate]) => rate === 14)).toBe(true)
  rates = [3, 4, 5, 14]
  await vi.advanceTimersByTimeAsync(10_000)
  expect(shown().slice(0, 4)).toEqual([[-10, 3], [-5, 4], [0, 5], before[2]])
  store.stop()
})

// @vitest-environment happy-dom
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { WorkerEvent } from '../stream/protocol'
import { aPull, T0 } from '../testing'
import { Store } from './store'

const FIRST_STEP = T0 - 10_000
/** The server's rates in steps of five seconds. */
let rates: readonly number[] = []

beforeEach(() => {
  vi.useFakeTimers({ now: T0 })
  const history = () => ({
    since: new Date(FIRST_STEP).toISOString(),
    step: 5,
    registries: [{ registry: 'docker.io', bytesPerSec: rates }],
  })
  vi.stubGlobal('fetch', async () => new Response(JSON.stringify(history())))
})

afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
})

/** A store and a function that delivers events from the worker. */
function opened() {
  const worker = { postMessage: vi.fn(), terminate: vi.fn(), onmessage: undefined as unknown }
  const stream = { worker: worker as unknown as Worker, early: [], started: Promise.resolve() }
  const store = new Store('http://host/', stream)
  store.start()
  const send = (...events: readonly WorkerEvent[]) => {
    for (const data of events) stream.worker.onmessage?.({ data } as MessageEvent)
  }
  return { store, send }
}

const HELLO: readonly WorkerEvent[] = [
  { kind: 'reset' },
  { kind: 'live', hello: { version: '1', bootId: 'b', time: T0, pulls: 2 } },
]
const state = (id: string, isPart: boolean): WorkerEvent => ({
  kind: 'events',
  events: [{ kind: 'changed', timestamp: T0, pull: aPull({ id, bytesPerSec: 7 }) }],
  more: false,
  isPart,
})

it('shows no pulls, counts or rates until the whole state has arrived', async () => {
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

it('shows an empty state as soon as the server has sent it', async () => {
  const { store, send } = opened()
  send(...HELLO, { kind: 'events', events: [], more: false, isPart: false })
  await vi.advanceTimersByTimeAsync(50)
  expect(store.snapshot().counts?.downloading).toBe(0)
  store.stop()
})

it('fills the step in which the page was opened from the server’s next history', async () => {
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

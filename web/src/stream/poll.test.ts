import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { Poll, type PollResult } from './poll'

const results: PollResult<unknown>[] = []
const page = { hidden: false }
const ask = vi.fn<typeof fetch>()

function polling(ms: number): Poll<unknown> {
  const poll = new Poll(
    new URL('http://host/list'),
    value => value,
    result => results.push(result),
  )
  poll.every(ms)
  return poll
}

beforeEach(() => {
  vi.useFakeTimers()
  vi.stubGlobal('document', page)
  vi.stubGlobal('fetch', ask)
  ask.mockImplementation(() => Promise.resolve(Response.json([1], { headers: { ETag: '"1"' } })))
  ask.mockClear()
  results.length = 0
  page.hidden = false
})

afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
})

it('a poll sends a request at once and then at its interval, until it is stopped', async () => {
  const poll = polling(3000)
  await vi.advanceTimersByTimeAsync(6000)
  expect(ask).toHaveBeenCalledTimes(3)
  poll.every(0)
  await vi.advanceTimersByTimeAsync(60_000)
  expect(ask).toHaveBeenCalledTimes(3)
})

it('sends the last ETag, and reports when nothing has changed', async () => {
  polling(3000)
  await vi.advanceTimersByTimeAsync(0)
  ask.mockResolvedValue(new Response(null, { status: 304 }))
  await vi.advanceTimersByTimeAsync(3000)
  expect(ask).toHaveBeenLastCalledWith(
    expect.anything(),
    expect.objectContaining({ headers: { 'If-None-Match': '"1"' } }),
  )
  expect(results).toEqual([{ kind: 'value', value: [1] }, { kind: 'unchanged' }])
})

it('sends requests less often in a hidden tab, and immediately when the tab becomes visible again', async () => {
  page.hidden = true
  const poll = polling(3000)
  await vi.advanceTimersByTimeAsync(23_000)
  expect(ask).toHaveBeenCalledTimes(1)
  page.hidden = false
  poll.now()
  expect(ask).toHaveBeenCalledTimes(2)
  await vi.advanceTimersByTimeAsync(3000)
  expect(ask).toHaveBeenCalledTimes(3)
})

it('a poll never has two concurrent requests, and sends none after it was stopped', async () => {
  const poll = polling(3000)
  poll.now()
  expect(ask).toHaveBeenCalledTimes(1)
  await vi.advanceTimersByTimeAsync(0)
  poll.every(0)
  poll.now()
  expect(ask).toHaveBeenCalledTimes(1)
})

it('reports a response that cannot be parsed, and continues', async () => {
  ask.mockRejectedValueOnce(new TypeError('no network'))
  ask.mockResolvedValueOnce(new Response('busy', { status: 503 }))
  ask.mockResolvedValueOnce(new Response('<html>'))
  polling(3000)
  await vi.advanceTimersByTimeAsync(9000)
  expect(results.map(({ kind }) => kind)).toEqual(['failed', 'failed', 'failed', 'value'])
})

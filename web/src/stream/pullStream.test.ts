import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { PullStream, type StreamListener } from './pullStream'

/** A test-controlled fake of the part of EventSource that the stream uses. tests/browser uses the real
 * EventSource. */
class FakeSource extends EventTarget {
  static all: FakeSource[] = []
  static get last(): FakeSource {
    const source = FakeSource.all.at(-1)
    if (source === undefined) throw new Error('nothing has been opened')
    return source
  }

  readonly url: URL
  closed = false
  readyState = 0

  constructor(url: URL) {
    super()
    this.url = url
    FakeSource.all.push(this)
  }

  close(): void {
    this.closed = true
  }

  emit(type: string, data: unknown, lastEventId = ''): void {
    const text = typeof data === 'string' ? data : JSON.stringify(data)
    this.dispatchEvent(Object.assign(new Event(type), { data: text, lastEventId }))
  }
}

const HELLO = { version: '1', bootId: 'b', time: '2026-11-23T14:00:00Z', revision: 1 }
const REMOVED = { type: 'pull.removed', timestamp: '2026-11-23T14:00:00Z', pull: { id: 'a' } }

function listener() {
  return {
    live: vi.fn(),
    reset: vi.fn(),
    event: vi.fn(),
    lost: vi.fn(),
    refused: vi.fn(),
    trying: vi.fn(),
  } satisfies StreamListener
}

beforeEach(() => {
  FakeSource.all = []
  vi.stubGlobal('EventSource', FakeSource)
  vi.useFakeTimers({ now: 0 })
})

afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
})

function opened() {
  const calls = listener()
  const stream = new PullStream('http://host/some/prefix/', calls, () => 1)
  stream.open()
  return { stream, calls }
}

describe('the stream', () => {
  it('the page requests the stream under its own prefix, without layers', () => {
    opened()
    expect(FakeSource.last.url.href).toBe('http://host/some/prefix/api/v1/events?layers=false')
  })

  it('knows when the whole state has arrived', () => {
    const { calls, stream } = opened()
    FakeSource.last.emit('hello', { ...HELLO, pulls: 2 })
    expect(calls.reset).toHaveBeenCalledOnce()
    expect(stream.isPart).toBe(true)
    FakeSource.last.emit('message', REMOVED, 'b-1')
    expect(stream.isPart).toBe(true)
    FakeSource.last.emit('message', REMOVED, 'b-2')
    expect(stream.isPart).toBe(false)
    FakeSource.last.emit('message', REMOVED, 'b-3')
    expect(stream.isPart).toBe(false)
  })

  it('requests the state again from its start if the connection was lost before all of it arrived', () => {
    const { stream } = opened()
    FakeSource.last.emit('hello', { ...HELLO, pulls: 2 })
    FakeSource.last.emit('message', REMOVED, 'b-1')
    stream.wantLayers(['a'])
    expect(FakeSource.last.url.searchParams.get('lastEventId')).toBeNull()
  })

  it('reports hello, reset and changes', () => {
    const { calls } = opened()
    FakeSource.last.emit('hello', HELLO)
    FakeSource.last.emit('reset', {})
    FakeSource.last.emit('message', REMOVED, 'b-1')
    expect(calls.live).toHaveBeenCalledWith(expect.objectContaining({ version: '1' }))
    expect(calls.reset).toHaveBeenCalledOnce()
    expect(calls.event).toHaveBeenCalledWith(JSON.stringify(REMOVED))
  })

  it('the stream is reopened when other layers are requested, and resumes from the last event', () => {
    const { stream } = opened()
    const first = FakeSource.last
    first.emit('message', REMOVED, 'b-7')
    stream.wantLayers(['x', 'y'])
    expect(first.closed).toBe(true)
    expect(FakeSource.last.url.searchParams.get('layers')).toBe('x,y')
    expect(FakeSource.last.url.searchParams.get('lastEventId')).toBe('b-7')
    stream.wantLayers(['x', 'y'])
    expect(FakeSource.all).toHaveLength(2)
  })

  it('the stream retries after an error with growing delays, and reports the time of the next attempt', () => {
    const { calls } = opened()
    FakeSource.last.emit('error', '')
    expect(calls.lost).toHaveBeenLastCalledWith(1000)
    vi.advanceTimersByTime(1000)
    expect(calls.trying).toHaveBeenCalledOnce()
    FakeSource.last.emit('error', '')
    expect(calls.lost).toHaveBeenLastCalledWith(1000 + 2000)
    vi.advanceTimersByTime(2000)
    expect(FakeSource.all).toHaveLength(3)
    FakeSource.last.emit('hello', HELLO)
    FakeSource.last.emit('error', '')
    expect(calls.lost).toHaveBeenLastCalledWith(3000 + 1000)
  })

  it('the stream gives up on a connection that does not open in time', () => {
    const { calls } = opened()
    vi.advanceTimersByTime(15_000)
    expect(calls.lost).toHaveBeenCalledOnce()
  })

  it('a closed stream does not send requests or report anything', () => {
    const { stream, calls } = opened()
    const source = FakeSource.last
    stream.close()
    source.emit('error', '')
    stream.retryNow()
    vi.advanceTimersByTime(60_000)
    expect(FakeSource.all).toHaveLength(1)
    expect(calls.lost).not.toHaveBeenCalled()
  })

  it('the stream retries when the hello event cannot be parsed', () => {
    const { calls } = opened()
    FakeSource.last.emit('hello', '<html>')
    expect(calls.live).not.toHaveBeenCalled()
    expect(calls.lost).toHaveBeenCalledOnce()
  })

  it.each([
    ['the reason of a JSON body', '{"error":"too many readers"}', 'too many readers'],
    ['no reason of an HTML body', '<html>busy</html>', ''],
  ])('reports a refusal with %s, and waits as long as the server requests', async (_, body, reason) => {
    const { calls } = opened()
    const response = new Response(body, { status: 503, headers: { 'Retry-After': '5' } })
    vi.stubGlobal('fetch', vi.fn().mockResolvedValue(response))
    FakeSource.last.readyState = 2
    FakeSource.last.emit('error', '')
    await vi.advanceTimersByTimeAsync(0)
    expect(calls.refused).toHaveBeenCalledWith({ status: 503, reason })
    expect(calls.lost).toHaveBeenLastCalledWith(5000)
    vi.advanceTimersByTime(4999)
    expect(FakeSource.all).toHaveLength(1)
    vi.advanceTimersByTime(1)
    expect(FakeSource.all).toHaveLength(2)
  })

  it('the stream does not request the reason if the server is unreachable', () => {
    opened()
    const request = vi.fn()
    vi.stubGlobal('fetch', request)
    FakeSource.last.emit('error', '')
    expect(request).not.toHaveBeenCalled()
  })
})

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { PullStream, type StreamListener } from './pullStream'

/** The part of EventSource that the stream uses, driven by the test; the real one is met in tests/browser. */
class FakeSource extends EventTarget {
  static all: FakeSource[] = []
  static get last(): FakeSource {
    const source = FakeSource.all.at(-1)
    if (source === undefined) throw new Error('nothing was opened')
    return source
  }

  readonly url: URL
  closed = false

  constructor(url: URL) {
    super()
    this.url = url
    FakeSource.all.push(this)
  }

  close(): void {
    this.closed = true
  }

  tell(type: string, data: unknown, lastEventId = ''): void {
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
    told: vi.fn(),
    lost: vi.fn(),
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
  const heard = listener()
  const stream = new PullStream('http://host/some/prefix/', heard, () => 1)
  stream.open()
  return { stream, heard }
}

describe('the stream', () => {
  it('is asked for under the page’s own prefix, without layers', () => {
    opened()
    expect(FakeSource.last.url.href).toBe('http://host/some/prefix/api/v1/events?layers=false')
  })

  it('tells of hello, reset and changes', () => {
    const { heard } = opened()
    FakeSource.last.tell('hello', HELLO)
    FakeSource.last.tell('reset', {})
    FakeSource.last.tell('message', REMOVED, 'b-1')
    expect(heard.live).toHaveBeenCalledWith(expect.objectContaining({ bootId: 'b' }))
    expect(heard.reset).toHaveBeenCalledOnce()
    expect(heard.told).toHaveBeenCalledWith(JSON.stringify(REMOVED))
  })

  it('is opened anew for other layers, and goes on where it was', () => {
    const { stream } = opened()
    const first = FakeSource.last
    first.tell('message', REMOVED, 'b-7')
    stream.wantLayers(['x', 'y'])
    expect(first.closed).toBe(true)
    expect(FakeSource.last.url.searchParams.get('layers')).toBe('x,y')
    expect(FakeSource.last.url.searchParams.get('lastEventId')).toBe('b-7')
    stream.wantLayers(['x', 'y'])
    expect(FakeSource.all).toHaveLength(2)
  })

  it('tries again after an error, ever later, and says when', () => {
    const { heard } = opened()
    FakeSource.last.tell('error', '')
    expect(heard.lost).toHaveBeenLastCalledWith(1000)
    vi.advanceTimersByTime(1000)
    expect(heard.trying).toHaveBeenCalledOnce()
    FakeSource.last.tell('error', '')
    expect(heard.lost).toHaveBeenLastCalledWith(1000 + 2000)
    vi.advanceTimersByTime(2000)
    expect(FakeSource.all).toHaveLength(3)
    FakeSource.last.tell('hello', HELLO)
    FakeSource.last.tell('error', '')
    expect(heard.lost).toHaveBeenLastCalledWith(3000 + 1000)
  })

  it('gives up on an answer that does not come', () => {
    const { heard } = opened()
    vi.advanceTimersByTime(15_000)
    expect(heard.lost).toHaveBeenCalledOnce()
  })

  it('does nothing any more once it is closed', () => {
    const { stream, heard } = opened()
    const source = FakeSource.last
    stream.close()
    source.tell('error', '')
    stream.retryNow()
    vi.advanceTimersByTime(60_000)
    expect(FakeSource.all).toHaveLength(1)
    expect(heard.lost).not.toHaveBeenCalled()
  })
})

/**
 * The stream of pulls. This is the only file that uses EventSource. After an error, the stream reconnects automatically
 * and resumes where it stopped. It can also request the layers of individual pulls.
 *
 * The browser's built-in reconnection is not used, because it has no back-off, does not allow a countdown and cannot
 * change the URL. Instead, each connection is a new EventSource whose URL contains the id of the last received event as
 * `lastEventId`.
 */
import type { Refusal } from '../store/connection'
import { type Hello, parseHello, parseReset } from '../wire/wire'
import { backoff } from './backoff'

export interface StreamListener {
  /** The stream is open, and all changes up to this point have arrived or are about to arrive. */
  live(hello: Hello): void
  /** The events that follow contain the complete state; any pull that they do not include no longer exists. `pulls` is
   * the number of these events; undefined if the server is too old to send it. */
  reset(pulls: number | undefined): void
  /** A PullEvent as JSON. */
  event(data: string): void
  /** The connection has been lost. The next attempt starts at `retryAt`, in milliseconds since 1970 like
   * `Date.now()`. */
  lost(retryAt: number): void
  /** The server refused the last attempt to connect and gave this HTTP status and reason. */
  refused(refusal: Refusal): void
  trying(): void
}

/** A connection that has not opened within this time is abandoned. */
const CONNECT_TIMEOUT_MS = 15_000
const LONGEST_REASON = 200

export class PullStream {
  readonly #base: string
  readonly #listener: StreamListener
  readonly #random: () => number
  #source: EventSource | undefined
  #lastEventId = ''
  /** How many pulls in the initial state have not been received yet. */
  #missing = 0
  #layers: readonly string[] = []
  #failures = 0
  #timer: ReturnType<typeof setTimeout> | undefined
  #closed = false

  constructor(base: string, listener: StreamListener, random: () => number = Math.random) {
    this.#base = base
    this.#listener = listener
    this.#random = random
  }

  /** Whether the server is still sending the state. */
  get isPart(): boolean {
    return this.#missing > 0
  }

  open(): void {
    this.#closed = false
    this.#connect()
  }

  close(): void {
    this.#closed = true
    this.#stop()
  }

  /** Subscribes to the layers of these pulls only. The next call replaces the selection. */
  wantLayers(ids: readonly string[]): void {
    if (ids.length === this.#layers.length && ids.every((id, at) => id === this.#layers[at])) return
    this.#layers = [...ids]
    // If no connection is open, the next attempt to connect will request the new layers.
    if (this.#source !== undefined) this.#connect()
  }

  /**
   * Reconnects immediately: after a click, when the network is back, or when the connection is probably dead.
   */
  retryNow(): void {
    if (this.#closed) return
    this.#failures = 0
    this.#listener.trying()
    this.#connect()
  }

  #address(): URL {
    const address = new URL('api/v1/events', this.#base)
    address.searchParams.set('layers', this.#layers.length === 0 ? 'false' : this.#layers.join(','))
    if (this.#lastEventId !== '') address.searchParams.set('lastEventId', this.#lastEventId)
    return address
  }

  #connect(): void {
    this.#stop()
    // If part of the state is missing, the whole state is requested again; otherwise, the stream could not detect when
    // the state is complete.
    if (this.isPart) this.#lastEventId = ''
    const source = new EventSource(this.#address())
    this.#source = source
    this.#timer = setTimeout(() => this.#fail(source), CONNECT_TIMEOUT_MS)
    source.addEventListener('hello', event => this.#hello(source, event.data))
    source.addEventListener('reset', event => this.#reset(countIn(event.data)))
    source.addEventListener('message', event => {
      this.#missing = Math.max(0, this.#missing - 1)
      this.#listener.event(event.data)
      this.#lastEventId = event.lastEventId
    })
    source.addEventListener('error', () => {
      // The browser stops reconnecting only if the response was not an event stream.
      const isRefused = source.readyState === 2
      this.#fail(source)
      if (isRefused) void this.#readRefusal()
    })
  }

  #hello(source: EventSource, data: string): void {
    try {
      const hello = parseHello(JSON.parse(data))
      clearTimeout(this.#timer)
      this.#failures = 0
      this.#missing = 0
      if (hello.pulls !== undefined) this.#reset(hello.pulls)
      this.#listener.live(hello)
    } catch {
      // A proxy responded instead of the server.
      this.#fail(source)
    }
  }

  #reset(pulls: number | undefined): void {
    this.#missing = pulls ?? 0
    this.#listener.reset(pulls)
  }

  #fail(source: EventSource): void {
    if (source !== this.#source) return
    this.#stop()
    this.#failures += 1
    this.#retryIn(backoff(this.#failures, this.#random))
  }

  #retryIn(wait: number): void {
    clearTimeout(this.#timer)
    this.#listener.lost(Date.now() + wait)
    this.#timer = setTimeout(() => {
      this.#listener.trying()
      this.#connect()
    }, wait)
  }

  /** EventSource hides the status of a response, so a separate request is needed to read it. */
  async #readRefusal(): Promise<void> {
    const failures = this.#failures
    const abort = new AbortController()
    try {
      const response = await fetch(this.#address(), { signal: abort.signal })
      if (response.ok || failures !== this.#failures) return
      const reason = await response.text().then(reasonIn, () => '')
      this.#listener.refused({ status: response.status, reason })
      const pause = 1000 * Number(response.headers.get('Retry-After'))
      if (pause > backoff(failures, () => 1) && this.#source === undefined) this.#retryIn(pause)
    } catch {
      // The server is unreachable. The next connection attempt handles this case.
    } finally {
      abort.abort()
    }
  }

  #stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#source?.close()
    this.#source = undefined
  }
}

function countIn(reset: string): number | undefined {
  try {
    return parseReset(JSON.parse(reset))
  } catch {
    return undefined
  }
}

/** The `error` field of a JSON body; empty if a proxy responded with an HTML page. */
function reasonIn(body: string): string {
  try {
    const parsed: unknown = JSON.parse(body)
    const error = typeof parsed === 'object' && parsed !== null && 'error' in parsed ? parsed.error : ''
    return typeof error === 'string' ? error.slice(0, LONGEST_REASON) : ''
  } catch {
    return ''
  }
}

/**
 * The stream of pulls; the only file that knows EventSource. It resumes where it stopped, starts again by itself after
 * an error, and can be told which pulls' layers are wanted.
 *
 * The browser's own reconnect is not used: it has no back-off, shows no countdown and cannot change the address. So each
 * connection is a new EventSource that names the last event seen in `lastEventId`.
 */
import { type Hello, parseHello } from '../wire'
import { backoff } from './backoff'

export interface StreamListener {
  /** The stream answers and everything up to now is or will be told. */
  live(hello: Hello): void
  /** What follows is everything there is; what it does not name is gone. */
  reset(): void
  /** A PullEvent as it came. */
  told(data: string): void
  /** The connection is lost; the next try is at this time of `Date.now()`. */
  lost(retryAt: number): void
  trying(): void
}

/** An answer that has not come by then is not coming. */
const CONNECT_TIMEOUT_MS = 15_000

export class PullStream {
  readonly #base: string
  readonly #listener: StreamListener
  readonly #random: () => number
  #source: EventSource | undefined
  #lastEventId = ''
  #layers: readonly string[] = []
  #failures = 0
  #timer: ReturnType<typeof setTimeout> | undefined
  #closed = false

  constructor(base: string, listener: StreamListener, random: () => number = Math.random) {
    this.#base = base
    this.#listener = listener
    this.#random = random
  }

  open(): void {
    this.#closed = false
    this.#connect()
  }

  close(): void {
    this.#closed = true
    this.#stop()
  }

  /** Asks for the layers of these pulls from now on. */
  wantLayers(ids: readonly string[]): void {
    if (ids.length === this.#layers.length && ids.every((id, at) => id === this.#layers[at])) return
    this.#layers = [...ids]
    // While waiting for the next try there is nothing to reopen; that try asks for the new ones.
    if (this.#source !== undefined) this.#connect()
  }

  /** Tries at once: a person asked, the network is back, or somebody has reason to think that the connection is dead. */
  retryNow(): void {
    if (this.#closed) return
    this.#failures = 0
    this.#listener.trying()
    this.#connect()
  }

  #connect(): void {
    this.#stop()
    const address = new URL('api/v1/events', this.#base)
    address.searchParams.set('layers', this.#layers.length === 0 ? 'false' : this.#layers.join(','))
    if (this.#lastEventId !== '') address.searchParams.set('lastEventId', this.#lastEventId)
    const source = new EventSource(address)
    this.#source = source
    this.#timer = setTimeout(() => this.#fail(source), CONNECT_TIMEOUT_MS)
    source.addEventListener('hello', event => {
      clearTimeout(this.#timer)
      this.#failures = 0
      this.#listener.live(parseHello(JSON.parse(event.data)))
    })
    source.addEventListener('reset', () => this.#listener.reset())
    source.addEventListener('message', event => {
      this.#listener.told(event.data)
      this.#lastEventId = event.lastEventId
    })
    source.addEventListener('error', () => this.#fail(source))
  }

  #fail(source: EventSource): void {
    if (source !== this.#source) return
    this.#stop()
    this.#failures += 1
    const wait = backoff(this.#failures, this.#random)
    this.#listener.lost(Date.now() + wait)
    this.#timer = setTimeout(() => {
      this.#listener.trying()
      this.#connect()
    }, wait)
  }

  #stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#source?.close()
    this.#source = undefined
  }
}

/** Asks an address again and again while somebody looks, and tells only what changed. */

export type PollAnswer<T> =
  | { readonly kind: 'value'; readonly value: T }
  /** Nothing new since the last value. */
  | { readonly kind: 'unchanged' }
  /** The server has no such address: it is older than this page. */
  | { readonly kind: 'missing' }
  /** No answer, or none that could be understood. */
  | { readonly kind: 'failed' }

const TIMEOUT_MS = 8000
/** A tab nobody sees asks this many times less often. */
const HIDDEN_FACTOR = 8
/** An address that the server does not have may come with its next version. */
const MISSING_FACTOR = 12

export class Poll<T> {
  readonly #address: URL
  readonly #parse: (value: unknown) => T
  readonly #tell: (answer: PollAnswer<T>) => void
  #everyMs = 0
  #timer: ReturnType<typeof setTimeout> | undefined
  #etag: string | undefined
  #asking = false

  constructor(address: URL, parse: (value: unknown) => T, tell: (answer: PollAnswer<T>) => void) {
    this.#address = address
    this.#parse = parse
    this.#tell = tell
  }

  /** Asks now and then this often; 0 stops. */
  every(ms: number): void {
    if (ms === this.#everyMs) return
    this.#everyMs = ms
    this.now()
  }

  /** Does not wait for the next turn: somebody looks at the tab again. */
  now(): void {
    clearTimeout(this.#timer)
    if (this.#everyMs > 0 && !this.#asking) void this.#cycle()
  }

  async #cycle(): Promise<void> {
    this.#asking = true
    const answer = await this.#ask().catch((): PollAnswer<T> => ({ kind: 'failed' }))
    this.#tell(answer)
    this.#asking = false
    if (this.#everyMs === 0) return
    const factor = answer.kind === 'missing' ? MISSING_FACTOR : document.hidden ? HIDDEN_FACTOR : 1
    this.#timer = setTimeout(() => void this.#cycle(), this.#everyMs * factor)
  }

  async #ask(): Promise<PollAnswer<T>> {
    const headers = this.#etag === undefined ? {} : { 'If-None-Match': this.#etag }
    const response = await fetch(this.#address, { headers, signal: AbortSignal.timeout(TIMEOUT_MS) })
    if (response.status === 304) return { kind: 'unchanged' }
    if (response.status === 404) return { kind: 'missing' }
    if (!response.ok) return { kind: 'failed' }
    const value = this.#parse(await response.json())
    this.#etag = response.headers.get('ETag') ?? undefined
    return { kind: 'value', value }
  }
}

/** Requests a list at intervals, and reports whether the list has changed. */

export type PollResult<T> =
  | { readonly kind: 'value'; readonly value: T }
  /** The list has not changed since it was last reported. */
  | { readonly kind: 'unchanged' }
  /** The server does not have this route, because it is older than this page. */
  | { readonly kind: 'missing' }
  /** There was no response, or it could not be parsed. */
  | { readonly kind: 'failed' }

const TIMEOUT_MS = 8000
/** In a hidden tab, the interval is multiplied by this factor. */
const HIDDEN_FACTOR = 8
/** If the route is missing, the interval is multiplied by this factor. The server may later be updated to a version
 * that has the route. */
const MISSING_FACTOR = 12

export class Poll<T> {
  readonly #address: URL
  readonly #parse: (value: unknown) => T
  readonly #report: (answer: PollResult<T>, ageMs: number) => void
  #everyMs = 0
  #timer: ReturnType<typeof setTimeout> | undefined
  #etag: string | undefined
  #isRequesting = false

  /** `report` also receives the time in milliseconds that has passed since the request was sent. */
  constructor(
    address: URL,
    parse: (value: unknown) => T,
    report: (answer: PollResult<T>, ageMs: number) => void,
  ) {
    this.#address = address
    this.#parse = parse
    this.#report = report
  }

  /** Requests the list immediately, and then at this interval. An interval of 0 stops the requests. */
  every(ms: number): void {
    if (ms === this.#everyMs) return
    this.#everyMs = ms
    this.now()
  }

  /** Requests the list now, because the tab is visible again. */
  now(): void {
    clearTimeout(this.#timer)
    if (this.#everyMs > 0 && !this.#isRequesting) void this.#cycle()
  }

  async #cycle(): Promise<void> {
    this.#isRequesting = true
    const sent = performance.now()
    const result = await this.#request().catch((): PollResult<T> => ({ kind: 'failed' }))
    this.#report(result, performance.now() - sent)
    this.#isRequesting = false
    if (this.#everyMs === 0) return
    const factor = result.kind === 'missing' ? MISSING_FACTOR : document.hidden ? HIDDEN_FACTOR : 1
    this.#timer = setTimeout(() => void this.#cycle(), this.#everyMs * factor)
  }

  async #request(): Promise<PollResult<T>> {
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

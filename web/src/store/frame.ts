/** Runs a function once per animation frame, however often it is asked to. */

/** A hidden tab gets no animation frames, yet its title and favicon must stay true. */
const HIDDEN_MS = 1000

export class Frame {
  readonly #run: () => void
  #cancel: (() => void) | undefined
  #notBefore = 0

  constructor(run: () => void) {
    this.#run = run
  }

  request(): void {
    if (this.#cancel !== undefined) return
    const wait = this.#notBefore - performance.now()
    if (wait > 0) this.#later(wait)
    else if (document.hidden) this.#later(HIDDEN_MS)
    else {
      const handle = requestAnimationFrame(() => this.#fire())
      this.#cancel = () => cancelAnimationFrame(handle)
    }
  }

  /** Waits this long with the next run, so that what comes in a burst is seen at once. */
  hold(ms: number): void {
    this.#notBefore = performance.now() + ms
    this.stop()
    this.request()
  }

  /** The tab was shown or hidden: what waits for the one would wait long for the other. */
  reschedule(): void {
    if (this.#cancel === undefined) return
    this.stop()
    this.request()
  }

  stop(): void {
    this.#cancel?.()
    this.#cancel = undefined
  }

  #later(ms: number): void {
    const handle = setTimeout(() => this.#fire(), ms)
    this.#cancel = () => clearTimeout(handle)
  }

  #fire(): void {
    this.#cancel = undefined
    this.#run()
  }
}

/** Runs a function at most once per animation frame, no matter how many times a run is requested. */

/** A hidden tab does not get animation frames, but its title and icon must remain up to date. */
const HIDDEN_MS = 1000

export class RafBatcher {
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

  /** Delays the next run by `ms`, so that a burst of changes is drawn in a single run. */
  hold(ms: number): void {
    this.#notBefore = performance.now() + ms
    this.stop()
    this.request()
  }

  /** Reschedules the pending run when the tab is shown or hidden, because the run's delay depends on the tab's
   * visibility. */
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

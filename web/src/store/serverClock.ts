/** Keeps track of the server's time, because durations on the page must not depend on the clock of the user's
 * machine. */

export class ServerClock {
  readonly #local: () => number
  #ahead: number | undefined

  /** `local` returns milliseconds from a monotonic clock (`performance.now`). */
  constructor(local: () => number) {
    this.#local = local
  }

  /** Sets the server's current time. */
  set(time: number): void {
    this.#ahead = time - this.#local()
  }

  /** Moves the clock forward to an event's time, because some clocks stop while a machine sleeps. */
  atLeast(time: number): void {
    if (this.#ahead !== undefined && time > this.now()) this.set(time)
  }

  /** The current time in milliseconds since 1970. Until the server has sent its time, this is the time of the user's
   * machine. */
  now(): number {
    return this.#ahead === undefined ? Date.now() : this.#local() + this.#ahead
  }
}

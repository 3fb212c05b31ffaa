/** The server's time. A duration on the page must not depend on the clock of the user's machine. */

export class ServerClock {
  readonly #local: () => number
  #ahead: number | undefined

  /** `local` counts milliseconds and never jumps (`performance.now`). */
  constructor(local: () => number) {
    this.#local = local
  }

  /** Sets the server's current time. */
  set(time: number): void {
    this.#ahead = time - this.#local()
  }

  /** Moves the clock forward to the time of an event, because some clocks stop while a machine sleeps. */
  atLeast(time: number): void {
    if (this.#ahead !== undefined && time > this.now()) this.set(time)
  }

  /** Milliseconds since 1970, by the clock of the user's machine until the server has sent its time. */
  now(): number {
    return this.#ahead === undefined ? Date.now() : this.#local() + this.#ahead
  }
}

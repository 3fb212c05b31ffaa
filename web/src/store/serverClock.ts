/** PURE. The server's time: what the page shows as "48 s" must not depend on how wrong the reader's clock is. */

export class ServerClock {
  readonly #local: () => number
  #ahead: number | undefined

  /** `local` counts milliseconds and never jumps (`performance.now`). */
  constructor(local: () => number) {
    this.#local = local
  }

  /** The server says that it is now this time. */
  set(time: number): void {
    this.#ahead = time - this.#local()
  }

  /** An event bears this time, so it cannot be earlier now: some clocks stand still while a machine sleeps. */
  atLeast(time: number): void {
    if (this.#ahead !== undefined && time > this.now()) this.set(time)
  }

  /** Milliseconds since 1970; the reader's own clock until the server has told its time. */
  now(): number {
    return this.#ahead === undefined ? Date.now() : this.#local() + this.#ahead
  }
}

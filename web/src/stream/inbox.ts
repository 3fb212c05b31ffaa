/** The unparsed events, in order of arrival. Only the newest event of each pull is kept, so older events are never
 * parsed. */
import { WireError } from '../wire/reader'
import { type PullEvent, parsePullEvent } from '../wire/wire'

/** The server writes the id as the first field of each pull (tests/contract/README.md). Quotes inside strings are
 * escaped, so nothing else in the JSON can match. */
const PULL_ID = /"pull":\s*\{\s*"id":\s*"([^"\\]*)"/

export class Inbox {
  readonly #waiting = new Map<string, string>()
  #unparsed = 0
  /**
   * `#missing` counts the events of the initial state that have not been received yet. `#untaken` counts the initial
   * events that have been received but that `take` has not removed yet. These events are at the front of the map,
   * because a newer event of the same pull takes the older event's place.
   */
  #missing = 0
  #untaken = 0

  get size(): number {
    return this.#waiting.size
  }

  /** True until all events of the initial state have arrived and `take` has returned them. */
  get isPart(): boolean {
    return this.#missing > 0 || this.#untaken > 0
  }

  /** How many events were skipped because they could not be parsed. */
  get unparsed(): number {
    return this.#unparsed
  }

  put(data: string): void {
    this.#waiting.set(PULL_ID.exec(data)?.[1] ?? data, data)
    if (this.#missing === 0) return
    this.#missing -= 1
    this.#untaken = this.#waiting.size
  }

  /** Drops all events. The events that follow contain the states of this many pulls. */
  reset(pulls = 0): void {
    this.#waiting.clear()
    this.#missing = pulls
    this.#untaken = 0
  }

  /** Removes and returns at most this many events. The remaining events stay queued until the next call. */
  take(most: number): readonly PullEvent[] {
    const events: PullEvent[] = []
    for (const [key, data] of this.#waiting) {
      if (events.length >= most) break
      this.#waiting.delete(key)
      this.#untaken -= 1
      const event = this.#parse(data)
      if (event !== undefined) events.push(event)
    }
    return events
  }

  /** Returns undefined if the event cannot be parsed. Throwing an error would prevent the other events from being
   * processed. */
  #parse(data: string): PullEvent | undefined {
    try {
      return parsePullEvent(JSON.parse(data))
    } catch (error) {
      if (!(error instanceof WireError || error instanceof SyntaxError)) throw error
      this.#unparsed += 1
      if (this.#unparsed === 1) console.warn('Pulltrace: an event could not be parsed:', error.message)
      return undefined
    }
  }
}

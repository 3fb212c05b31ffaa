/** Events in the order of arrival, not yet parsed. Only the newest event of each pull is kept, so that older events
 * are never parsed. */
import { WireError } from '../wire/reader'
import { type PullEvent, parsePullEvent } from '../wire/wire'

/** The id is the first field of each pull that the server writes (tests/contract/README.md). Quotes inside strings are
 * escaped, so no other text can match. */
const PULL_ID = /"pull":\s*\{\s*"id":\s*"([^"\\]*)"/

export class Inbox {
  readonly #waiting = new Map<string, string>()
  #unparsed = 0

  get isEmpty(): boolean {
    return this.#waiting.size === 0
  }

  /** The number of events that could not be parsed and were therefore left out. */
  get unparsed(): number {
    return this.#unparsed
  }

  put(data: string): void {
    this.#waiting.set(PULL_ID.exec(data)?.[1] ?? data, data)
  }

  clear(): void {
    this.#waiting.clear()
  }

  /** Returns up to this many events. The others wait for the next call. */
  take(most: number): readonly PullEvent[] {
    const events: PullEvent[] = []
    for (const [key, data] of this.#waiting) {
      if (events.length >= most) break
      this.#waiting.delete(key)
      const event = this.#parse(data)
      if (event !== undefined) events.push(event)
    }
    return events
  }

  /** If one event cannot be parsed, the others must still be processed. */
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

/** PURE. Events as they came, not yet parsed; of each pull the newest alone. What was overtaken is never parsed. */
import { type PullEvent, parsePullEvent, WireError } from '../wire'

/** The server writes a pull's id first. A quote inside a text is escaped, so this cannot be found in one. */
const PULL_ID = /"pull":\s*\{\s*"id":\s*"([^"\\]*)"/

export class Inbox {
  readonly #waiting = new Map<string, string>()
  #misunderstood = 0

  get isEmpty(): boolean {
    return this.#waiting.size === 0
  }

  /** How many events were not understood and therefore left out. */
  get misunderstood(): number {
    return this.#misunderstood
  }

  put(data: string): void {
    this.#waiting.set(PULL_ID.exec(data)?.[1] ?? data, data)
  }

  clear(): void {
    this.#waiting.clear()
  }

  /** At most so many events; what is left is taken the next time. */
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

  /** One event that is not understood must not stop the others. */
  #parse(data: string): PullEvent | undefined {
    try {
      return parsePullEvent(JSON.parse(data))
    } catch (error) {
      if (!(error instanceof WireError || error instanceof SyntaxError)) throw error
      this.#misunderstood += 1
      if (this.#misunderstood === 1) console.warn('Pulltrace: an event was not understood:', error.message)
      return undefined
    }
  }
}

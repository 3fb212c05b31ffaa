/** The row that the table must scroll to as soon as it exists: the one that a link or a "Show" button names. */
import { readUrl } from './urlState'

/** A row that has not appeared by then is not worth a jump of the page. */
const PATIENCE_MS = 10_000
/** The heights of the rows above are guesses at first, so the first try may miss. */
const TRIES = 4

let wanted = readUrl(window.location.search).open.at(0)
let until = performance.now() + PATIENCE_MS
let tries = TRIES

export const pendingReveal = {
  request(key: string | undefined): void {
    wanted = key
    until = performance.now() + PATIENCE_MS
    tries = TRIES
  },
  key(): string | undefined {
    return performance.now() < until && tries > 0 ? wanted : undefined
  },
  countTry(): void {
    tries -= 1
  },
  clear(): void {
    wanted = undefined
  },
}

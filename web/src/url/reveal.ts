/** The row that a link or a "Show" button points to. The page scrolls to this row as soon as it exists. */
import { readUrl } from './urlState'

/** The page no longer scrolls to a row that appears after more than this time. */
const PATIENCE_MS = 10_000
/** At first, the heights of the rows above are only estimates, so the page may scroll to the wrong place and
 * have to try again. */
const TRIES = 4

/** The list of registries, which the page can scroll to in the same way as to a row. */
export const REGISTRIES = '#registries'

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

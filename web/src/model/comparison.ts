/** Compares the speed of a pull with the speeds at which other nodes pull the same image, in order to distinguish a
 * slow node from a slow registry. */
import type { Pull } from '../wire/wire'
import { median } from './order'
import { averageRate } from './pullState'

export interface Comparison {
  readonly here: number
  /** The median speed of the other nodes. */
  readonly elsewhere: number
  readonly nodes: number
}

/** The speed of a pull is not meaningful until it has been running for this long. */
const YOUNG_MS = 5000

/** The average rate at which a downloading or completed pull has downloaded so far, in bytes per second. */
export function speedOf(pull: Pull, now: number): number | undefined {
  if (pull.status === 'completed') return averageRate(pull)
  // If the percentage counts layers, the number of bytes in the layers that are still being fetched is unknown.
  if (pull.status !== 'downloading' || pull.stalledSince !== undefined || pull.percentBasis === 'layers')
    return undefined
  const seconds = (now - pull.startedAt) / 1000
  return seconds * 1000 < YOUNG_MS || pull.downloadedBytes === 0 ? undefined : pull.downloadedBytes / seconds
}

/** Returns undefined if the speed of this pull is unknown, or if no speed is known for any pull on another node. */
export function compareNodes(pull: Pull, pulls: Iterable<Pull>, now: number): Comparison | undefined {
  const here = pull.status === 'downloading' ? speedOf(pull, now) : undefined
  if (here === undefined) return undefined
  const speeds = new Map<string, number>()
  for (const other of pulls) {
    if (other.imageRef !== pull.imageRef || other.nodeName === pull.nodeName) continue
    const speed = speedOf(other, now)
    if (speed !== undefined) speeds.set(other.nodeName, speed)
  }
  const elsewhere = median([...speeds.values()])
  return elsewhere === undefined ? undefined : { here, elsewhere, nodes: speeds.size }
}

/** A node counts as slow if the other nodes are faster than it by more than the first factor. Nodes count as equally
 * fast if their speeds differ by less than the second factor. */
const MUCH_SLOWER = 2.5
const SIMILAR = 1.5

export function isSlowNode({ here, elsewhere }: Comparison): boolean {
  return here * MUCH_SLOWER < elsewhere
}

export function isLikeElsewhere({ here, elsewhere, nodes }: Comparison): boolean {
  return nodes >= 2 && here * SIMILAR > elsewhere && elsewhere * SIMILAR > here
}

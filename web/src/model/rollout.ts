/** One row per image, with its progress across the nodes. */
import type { Pull } from '../wire/wire'
import { isUnknown, registryOf } from './images'
import { byFigure, byText, type Compare, type Order } from './order'
import { pullFacts } from './pullRows'
import { hasEnded, tookSeconds } from './pullState'
import { type Facts, KEYS, type Key } from './query'
import { type Context, standing } from './standing'

export interface ImageRow {
  readonly imageRef: string
  readonly registry: string
  /** The latest pull of each node, unfinished ones first. */
  readonly pulls: readonly Pull[]
  readonly done: number
  readonly pulling: number
  readonly queued: number
  readonly failed: number
  /** Cancelled pulls, and failed ones that no pod waits for. */
  readonly stopped: number
  readonly slowest: Pull | undefined
  readonly medianSeconds: number | undefined
  readonly worstSeconds: number | undefined
  readonly imageBytes: number
}

export function imageRows(pulls: Iterable<Pull>, context: Context): readonly ImageRow[] {
  const byImage = new Map<string, Map<string, Pull>>()
  for (const pull of pulls) {
    if (isUnknown(pull.imageRef)) continue
    const nodes = byImage.get(pull.imageRef) ?? new Map<string, Pull>()
    byImage.set(pull.imageRef, nodes)
    const known = nodes.get(pull.nodeName)
    if (known === undefined || known.startedAt < pull.startedAt) nodes.set(pull.nodeName, pull)
  }
  return [...byImage].map(([imageRef, nodes]) => imageRow(imageRef, [...nodes.values()], context))
}

function imageRow(imageRef: string, pulls: readonly Pull[], context: Context): ImageRow {
  const count = (fits: (pull: Pull) => boolean) => pulls.filter(fits).length
  // A node that already had the image does not show how long a pull takes.
  const took = pulls
    .filter(({ status, downloadedBytes }) => status === 'completed' && downloadedBytes > 0)
    .flatMap(pull => tookSeconds(pull) ?? [])
    .sort((a, b) => a - b)
  const slowestFirst = [...pulls].sort((a, b) => need(b) - need(a))
  return {
    imageRef,
    registry: registryOf(imageRef, pulls[0]?.registry),
    pulls: slowestFirst,
    done: count(({ status }) => status === 'completed'),
    queued: count(({ status }) => status === 'queued'),
    failed: count(pull => standing(pull, context) === 'failing'),
    stopped: count(pull => pull.status === 'failed' && standing(pull, context) !== 'failing'),
    pulling: count(pull => !hasEnded(pull) && pull.status !== 'queued'),
    slowest: pulls.length > 1 ? slowestFirst[0] : undefined,
    medianSeconds: median(took),
    worstSeconds: took.at(-1),
    imageBytes: Math.max(...pulls.map(pull => pull.imageBytes)),
  }
}

/** Sorts nodes by how much they delay the rollout: failed ones, then those with the longest remaining time,
 * then the slowest completed ones. */
function need(pull: Pull): number {
  if (pull.status === 'failed') return 3e9
  if (pull.status === 'completed') return tookSeconds(pull) ?? 0
  return 1e9 + (pull.etaSeconds ?? 1e9)
}

function median(sorted: readonly number[]): number | undefined {
  const middle = sorted.length / 2
  const [a, b] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]]
  return a === undefined || b === undefined ? undefined : (a + b) / 2
}

/** Combines the properties of several pulls into those of one row. */
export function factsOf(pulls: readonly Pull[], context: Context): Facts {
  const merged: Record<Key, string[]> = { image: [], node: [], ns: [], pod: [], status: [], registry: [] }
  for (const pull of pulls) {
    const facts = pullFacts(pull, context)
    for (const key of KEYS) merged[key].push(...facts[key])
  }
  return merged
}

/** Nodes without the image, except those where the pull was stopped, because they no longer need it. */
export const unfinished = ({ pulling, queued, failed }: ImageRow): number => pulling + queued + failed

const byImage = byText(({ imageRef }: ImageRow) => imageRef)

/** Unfinished rollouts first, starting with the one on most nodes. */
export const byRollout: Compare<ImageRow> = (a, b) =>
  Math.sign(unfinished(b)) - Math.sign(unfinished(a)) || b.pulls.length - a.pulls.length || byImage(a, b)

export const IMAGE_ORDER: Order<ImageRow> = {
  image: byImage,
  rollout: (a, b) => a.done / a.pulls.length - b.done / b.pulls.length,
  nodes: (a, b) => a.pulls.length - b.pulls.length,
  size: (a, b) => a.imageBytes - b.imageBytes,
  median: byFigure(({ medianSeconds }) => medianSeconds),
  worst: byFigure(({ worstSeconds }) => worstSeconds),
}

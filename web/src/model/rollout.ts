/** One row per image, with its progress across the nodes. */
import type { Pod, Pull } from '../wire/wire'
import { fullReference, isUnknown, registryOf } from './images'
import { byFigure, byText, type Compare, type Order } from './order'
import { pullFacts } from './pullRows'
import { hasEnded, tookSeconds } from './pullState'
import { type Facts, KEYS, type Key } from './query'
import { type Context, standing, waitsNow } from './standing'

export interface ImageRow {
  readonly imageRef: string
  readonly registry: string
  /** The latest pull of each node, unfinished ones first. */
  readonly pulls: readonly Pull[]
  readonly done: number
  readonly pulling: number
  readonly queued: number
  readonly failed: number
  /** Cancelled pulls, and failed pulls that no pod is waiting for. */
  readonly stopped: number
  /** Nodes on which a pod is waiting for the image but the kubelet has not requested it yet. */
  readonly waiting: readonly string[]
  readonly nodeCount: number
  /** The name of the node that delays the rollout most. */
  readonly slowest: string | undefined
  readonly medianSeconds: number | undefined
  readonly worstSeconds: number | undefined
  readonly imageBytes: number
}

export function imageRows(
  pulls: Iterable<Pull>,
  pods: readonly Pod[],
  context: Context,
): readonly ImageRow[] {
  const byImage = new Map<string, Map<string, Pull>>()
  for (const pull of pulls) {
    if (isUnknown(pull.imageRef)) continue
    const nodes = byImage.get(pull.imageRef) ?? new Map<string, Pull>()
    byImage.set(pull.imageRef, nodes)
    const known = nodes.get(pull.nodeName)
    if (known === undefined || known.startedAt < pull.startedAt) nodes.set(pull.nodeName, pull)
  }
  const waiting = waitingNodes(pods)
  return [...new Set([...byImage.keys(), ...waiting.keys()])].map(imageRef => {
    const ofImage = [...(byImage.get(imageRef)?.values() ?? [])]
    const isPulled = (node: string) =>
      ofImage.some(({ nodeName, status }) => nodeName === node && status !== 'failed')
    const nodes = [...(waiting.get(imageRef) ?? [])].filter(node => !isPulled(node))
    return imageRow(imageRef, ofImage, nodes, context)
  })
}

/** For each image, the nodes on which pods wait for the image but no pull of it is running. */
function waitingNodes(pods: readonly Pod[]): ReadonlyMap<string, ReadonlySet<string>> {
  const found = new Map<string, Set<string>>()
  for (const pod of pods) {
    if (!waitsNow(pod) || pod.nodeName === '') continue
    for (const { image, state, pullId } of pod.containers) {
      if (state !== 'waiting' || pullId !== undefined) continue
      const imageRef = fullReference(image)
      found.set(imageRef, (found.get(imageRef) ?? new Set()).add(pod.nodeName))
    }
  }
  return found
}

function imageRow(
  imageRef: string,
  pulls: readonly Pull[],
  waiting: readonly string[],
  context: Context,
): ImageRow {
  const count = (fits: (pull: Pull) => boolean) => pulls.filter(fits).length
  // A node that already had the image does not show how long a pull takes.
  const took = pulls
    .filter(({ status, downloadedBytes }) => status === 'completed' && downloadedBytes > 0)
    .flatMap(pull => tookSeconds(pull) ?? [])
    .sort((a, b) => a - b)
  const slowestFirst = [...pulls].sort((a, b) => need(b) - need(a))
  const slowest = slowestFirst.find(pull => !hasEnded(pull))?.nodeName ?? waiting[0]
  const nodeCount = new Set([...pulls.map(({ nodeName }) => nodeName), ...waiting]).size
  return {
    imageRef,
    registry: registryOf(imageRef, pulls[0]?.registry),
    pulls: slowestFirst,
    done: count(({ status }) => status === 'completed'),
    queued: count(({ status }) => status === 'queued'),
    failed: count(pull => standing(pull, context) === 'failing'),
    stopped: count(pull => pull.status === 'failed' && standing(pull, context) !== 'failing'),
    pulling: count(pull => !hasEnded(pull) && pull.status !== 'queued'),
    waiting,
    nodeCount,
    slowest: nodeCount > 1 ? (slowest ?? slowestFirst[0]?.nodeName) : undefined,
    medianSeconds: median(took),
    worstSeconds: took.at(-1),
    imageBytes: Math.max(0, ...pulls.map(pull => pull.imageBytes)),
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

/** The properties of an image; without a pull, only its name and its nodes are known. */
export function imageFacts({ imageRef, pulls, waiting }: ImageRow, context: Context): Facts {
  const facts = factsOf(pulls, context)
  if (waiting.length === 0) return facts
  return {
    ...facts,
    image: [...facts.image, imageRef.toLowerCase()],
    node: [...facts.node, ...waiting.map(node => node.toLowerCase())],
    status: [...facts.status, 'waiting'],
    registry: [...facts.registry, registryOf(imageRef, undefined).toLowerCase()],
  }
}

/** Combines the properties of several pulls into those of one row. */
export function factsOf(pulls: readonly Pull[], context: Context): Facts {
  const merged = Object.fromEntries(KEYS.map(key => [key, [] as string[]])) as Record<Key, string[]>
  for (const pull of pulls) {
    const facts = pullFacts(pull, context)
    for (const key of KEYS) merged[key].push(...facts[key])
  }
  return merged
}

/** Nodes without the image, except those where the pull was stopped, because they no longer need it. */
export const unfinished = ({ pulling, queued, failed, waiting }: ImageRow): number =>
  pulling + queued + failed + waiting.length

const byImage = byText(({ imageRef }: ImageRow) => imageRef)

/** Unfinished rollouts first, starting with the image on the most nodes. */
export const byRollout: Compare<ImageRow> = (a, b) =>
  Math.sign(unfinished(b)) - Math.sign(unfinished(a)) || b.nodeCount - a.nodeCount || byImage(a, b)

export const IMAGE_ORDER: Order<ImageRow> = {
  image: byImage,
  rollout: (a, b) => a.done / a.nodeCount - b.done / b.nodeCount,
  nodes: (a, b) => a.nodeCount - b.nodeCount,
  size: (a, b) => a.imageBytes - b.imageBytes,
  median: byFigure(({ medianSeconds }) => medianSeconds),
  worst: byFigure(({ worstSeconds }) => worstSeconds),
}

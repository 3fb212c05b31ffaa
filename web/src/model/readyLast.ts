/** Identifies the pods that will probably be ready last. */
import type { Pull } from '../wire/wire'
import { LEAST_BOUND } from './format'
import { type ContainerRow, hasProblem, type PodRow, queuePosition } from './podRows'

export interface ReadyLast {
  /** The image and node that the pods are waiting for. */
  readonly key: string
  /** One of the pods that will probably be ready last, among those with a reliable estimate or a lower bound. */
  readonly row: PodRow
  /** Seconds until it is ready. */
  readonly seconds: number
  /** Whether `seconds` is only a lower bound. */
  readonly isBound: boolean
  /** How many pods are waiting for this image on this node. If the chosen pod also needs an image that is not queued yet,
   * only such pods are counted; otherwise, only pods that need no such image. */
  readonly pods: number
  /** Whether all these pods wait for the same image next. */
  readonly isNextShared: boolean
  /** How many other pods have no reliable estimate. */
  readonly blind: number
  /** How many pods cannot become ready because a pull has failed, stalled or been cancelled. */
  readonly stuck: number
}

/** The image that a pod needs next and that is not queued yet; undefined if there is none. */
export function nextOf({ later, slowest }: Pick<PodRow, 'later' | 'slowest'>): ContainerRow | undefined {
  return later.find(row => row !== slowest) ?? later[0]
}

const imageAndNode = ({ pod, slowest }: PodRow): string => `${slowest?.container.image} ${pod.nodeName}`

const ROUGH: readonly Pull['usualBasis'][] = ['registry', 'node', 'other_nodes']

/** Whether the pod's estimate or lower bound is based on pulls of other images or on other nodes. */
function isRough({ slowest }: PodRow): boolean {
  const { pull, place } = slowest ?? {}
  return place !== undefined && ROUGH.includes(pull?.usualBasis)
}

const isReliable = (row: PodRow): boolean => row.etaSeconds !== undefined && !isRough(row)

const secondsOf = ({ etaSeconds, etaAtLeast = 0 }: PodRow): number => etaSeconds ?? etaAtLeast

/** Whether the pod has a reliable estimate, or a reliable lower bound that is long enough to be shown. */
function isComparable(row: PodRow): boolean {
  return !isRough(row) && (row.etaSeconds !== undefined || secondsOf(row) >= LEAST_BOUND)
}

/** An image counts as clearly slower than another only if its time exceeds the other's by both this factor and this
 * number of seconds. */
const LONGER_FACTOR = 1.1
const LONGER_SECONDS = 10

/** Returns undefined if fewer than two pods are waiting for a pull, or if none of them has a reliable estimate or a
 * lower bound. To avoid flicker, the previous choice (the image with the key `before`) is kept until another image is
 * clearly slower or queued behind it. */
export function readyLast(rows: readonly PodRow[], before?: string): ReadyLast | undefined {
  const waiting = rows.filter(({ state }) => state !== 'done')
  const pulling = waiting.filter(row => !hasProblem(row))
  const known = pulling
    .filter(isComparable)
    .sort(
      (a, b) =>
        secondsOf(a) - secondsOf(b) || a.later.length - b.later.length || queuePosition(a) - queuePosition(b),
    )
  const last = known.at(-1)
  if (last === undefined || pulling.length < 2) return undefined
  const kept = known.filter(one => imageAndNode(one) === before).at(-1) ?? last
  const limit = Math.max(LONGER_FACTOR * secondsOf(kept), secondsOf(kept) + LONGER_SECONDS)
  const isBehind = last.pod.nodeName === kept.pod.nodeName && queuePosition(last) > queuePosition(kept)
  const row = isBehind || secondsOf(last) > limit ? last : kept
  const key = imageAndNode(row)
  const isCounted = (other: PodRow) =>
    imageAndNode(other) === key && other.later.length > 0 === row.later.length > 0
  const counted = pulling.filter(isCounted)
  const nextImage = (other: PodRow) => nextOf(other)?.container.image
  return {
    key,
    row,
    seconds: secondsOf(row),
    isBound: row.etaSeconds === undefined,
    pods: counted.length,
    isNextShared: counted.every(other => nextImage(other) === nextImage(row)),
    blind: pulling.filter(other => !isReliable(other) && !isCounted(other)).length,
    stuck: waiting.length - pulling.length,
  }
}

/** Decides whether a pull is failing, live or past. All parts of the page use these rules. */
import type { Pod, PodList, PodRef, Pull } from '../wire/wire'
import { groupBy } from './failureGroups'
import { listed } from './format'
import { hasEnded, isFailingRetry, isRetrying, type PullState, pullState } from './pullState'

/** The pods that are currently waiting, according to the list of pods. Pods are named `namespace/name`. */
export interface WaitingPods {
  readonly names: ReadonlySet<string>
  /** For each pull, the pods that need its image. */
  readonly byPull: ReadonlyMap<string, readonly string[]>
  /** For each of these pulls, its node. */
  readonly nodes: ReadonlyMap<string, string>
  /** The server's time when the list was requested. */
  readonly at: number
}

export interface Context {
  /** The waiting pods; undefined if the server cannot see pods or if its list of pods has not arrived yet. */
  readonly waiting: WaitingPods | undefined
  /** The start time of the newest pull of each image on each node. */
  readonly newest: ReadonlyMap<string, number>
  /** For each image, the pulls that have been failing since the image was last pulled successfully on any node. */
  readonly failing: ReadonlyMap<string, readonly Pull[]>
  readonly now: number
}

/** If there is no list of pods, a failure counts as current for this long. */
const NEWS_MS = 5 * 60_000

export const podName = ({ namespace, podName: name }: Pick<PodRef, 'namespace' | 'podName'>): string =>
  `${namespace}/${name}`

/** Whether a pod is still waiting. Pods that have started remain in the list for a while. */
export function waitsNow({ tookSeconds }: Pick<Pod, 'tookSeconds'>): boolean {
  return tookSeconds === undefined
}

export function waitingPods(list: PodList | 'missing' | undefined, at: number): WaitingPods | undefined {
  if (list === undefined || list === 'missing' || !list.watching) return undefined
  const pods = list.pods.filter(waitsNow)
  const needs = pods.flatMap(pod =>
    pod.containers.flatMap(({ pullId }) => (pullId === undefined ? [] : { pullId, pod })),
  )
  const byPull = new Map(
    [...groupBy(needs, ({ pullId }) => pullId)].map(([id, all]) => [id, all.map(({ pod }) => podName(pod))]),
  )
  const nodes = new Map(needs.map(({ pullId, pod }) => [pullId, pod.nodeName]))
  return { names: new Set(pods.map(podName)), byPull, nodes, at }
}

const place = ({ nodeName, imageRef }: Pull): string => `${nodeName} ${imageRef}`

export function contextOf(pulls: Iterable<Pull>, waiting: WaitingPods | undefined, now: number): Context {
  const newest = new Map<string, number>()
  const pulledAt = new Map<string, number>()
  const failing: Pull[] = []
  for (const pull of pulls) {
    const { imageRef, status, completedAt = 0 } = pull
    const known = newest.get(place(pull))
    if (known === undefined || known < pull.startedAt) newest.set(place(pull), pull.startedAt)
    if (status === 'completed') pulledAt.set(imageRef, Math.max(pulledAt.get(imageRef) ?? 0, completedAt))
    else if (pull.failingSince !== undefined) failing.push(pull)
  }
  const isLater = ({ imageRef, failingSince = 0 }: Pull) => failingSince > (pulledAt.get(imageRef) ?? 0)
  return { waiting, newest, failing: groupBy(failing.filter(isLater), ({ imageRef }) => imageRef), now }
}

/** The pods that are currently waiting for this pull. For a finished pull, these pods are taken from the list of pods,
 * because the pull itself no longer changes. */
export function waitersOf(pull: Pull, { waiting }: Context): readonly PodRef[] {
  if (waiting === undefined || pull.pods.length === 0 || !hasEnded(pull)) return pull.pods
  if ((pull.completedAt ?? waiting.at) >= waiting.at) return pull.pods
  return pull.pods.filter(pod => waiting.names.has(podName(pod)))
}

/** How many different pods are currently waiting for any of these pulls. */
export function waiterCount(pulls: readonly Pull[], context: Context): number {
  return new Set(pulls.flatMap(pull => waitersOf(pull, context).map(podName))).size
}

/** How many of these pods the Pods view shows. While the stream is ahead of the list of pods, this number may differ from
 * `waiterCount`. */
export function listedWaiterCount(pulls: readonly Pull[], context: Context): number {
  const { waiting } = context
  if (waiting === undefined) return waiterCount(pulls, context)
  return new Set(pulls.flatMap(({ id }) => waiting.byPull.get(id) ?? [])).size
}

/** How many pulls on a node are gone although the list of pods still contains their pods. These pods were deleted after
 * the list had been requested, and the Pods view still shows them. `pulls` are all pulls. */
export function goneCount(nodeName: string, pulls: readonly Pull[], { waiting }: Context): number {
  if (waiting === undefined) return 0
  const ids = new Set(pulls.map(({ id }) => id))
  return [...waiting.nodes].filter(([id, node]) => node === nodeName && !ids.has(id)).length
}

/** The list of pods is requested again within this time. */
const LIST_LATE_MS = 5000

/** Whether the Pods view already shows this failure. A pull may fail before its pod is in the list of pods. */
export function isListed({ id, completedAt = 0 }: Pull, { waiting, now }: Context): boolean {
  if (waiting === undefined || completedAt < waiting.at || waiting.byPull.has(id)) return true
  return now - completedAt > LIST_LATE_MS
}

const MOST_NAMES = 3

/** The pods that waited for a pull but are no longer waiting: `shop/cart-0 (Deployment/cart), shop/cart-1`; empty if
 * none is known. */
export function waitedNames(pull: Pull, context: Context): string {
  const waiting = new Set(waitersOf(pull, context).map(podName))
  const gone = [...pull.waited, ...pull.pods].filter(pod => !waiting.has(podName(pod)))
  const names = [...new Map(gone.map(pod => [podName(pod), ownedName(pod)])).values()]
  return listed(names, MOST_NAMES)
}

const ownedName = (pod: PodRef): string => podName(pod) + (pod.owner === undefined ? '' : ` (${pod.owner})`)

/** Whether there is a later pull of the same image on the same node. */
function isSuperseded(pull: Pull, { newest }: Context): boolean {
  return (newest.get(place(pull)) ?? 0) > pull.startedAt
}

/**
 * - `failing`: the pull failed, and a pod is waiting for it; the next attempt may be queued or running, but has not
 *   received any bytes yet.
 * - `live`: the pull is in progress, or was cancelled and will be retried because a pod is waiting for it.
 * - `past`: the pull has finished, and no pod is waiting for it.
 */
export type Standing = 'failing' | 'live' | 'past'

export function standing(pull: Pull, context: Context): Standing {
  if (!hasEnded(pull)) {
    const isFailing = isRetrying(pull) || isFailingRetry(pull)
    return isFailing && isWaitedFor(pull, context) ? 'failing' : 'live'
  }
  if (pull.status === 'completed' || isSuperseded(pull, context)) return 'past'
  if (pull.errorReason === 'canceled') return waitersOf(pull, context).length > 0 ? 'live' : 'past'
  return isWaitedFor(pull, context) ? 'failing' : 'past'
}

function isWaitedFor(pull: Pull, context: Context): boolean {
  if (waitersOf(pull, context).length > 0) return true
  if (context.waiting !== undefined) return false
  return pull.nextRetryAt !== undefined || context.now - (pull.completedAt ?? context.now) < NEWS_MS
}

export interface StateCounts {
  readonly queued: number
  readonly downloading: number
  readonly extracting: number
  readonly failed: number
  readonly done: number
  /** Stalled pulls also count as downloading. */
  readonly stalled: number
}

/** The counts when there are no pulls. */
export const NO_COUNTS: StateCounts = {
  queued: 0,
  downloading: 0,
  extracting: 0,
  failed: 0,
  done: 0,
  stalled: 0,
}

/** When the earliest completed pull ended; undefined if no pull has completed. */
export function firstDone(pulls: Iterable<Pull>): number | undefined {
  let first: number | undefined
  for (const { status, completedAt } of pulls)
    if (status === 'completed' && completedAt !== undefined)
      first = Math.min(first ?? completedAt, completedAt)
  return first
}

/** How many pulls are queued or running. */
export function activeCount({ queued, downloading, extracting }: StateCounts): number {
  return queued + downloading + extracting
}

const TILE: Readonly<Partial<Record<PullState, Exclude<keyof StateCounts, 'stalled'>>>> = {
  queued: 'queued',
  resolving: 'downloading',
  downloading: 'downloading',
  stalled: 'downloading',
  extracting: 'extracting',
  done: 'done',
}

/** Resolving and stalled pulls count as downloading. Failed pulls count only if a pod is waiting for them. A queued
 * retry of a failed pull counts as both queued and failed. */
export function countStates(pulls: Iterable<Pull>, context: Context): StateCounts {
  const counts = { ...NO_COUNTS }
  for (const pull of pulls) {
    const state = pullState(pull)
    const tile = TILE[state]
    if (state === 'stalled') counts.stalled += 1
    if (tile !== undefined) counts[tile] += 1
    if (standing(pull, context) === 'failing') counts.failed += 1
  }
  return counts
}

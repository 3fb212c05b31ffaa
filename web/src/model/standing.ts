/** Whether a pull needs attention, is in progress, or is history. All parts of the page use these rules. */
import type { Pod, PodList, PodRef, Pull } from '../wire/wire'
import { hasEnded, type PullState, pullState } from './pullState'

/**
 * The names (`namespace/name`) of the pods that are waiting now, and the server time of this list.
 */
export interface WaitingPods {
  readonly names: ReadonlySet<string>
  readonly at: number
}

export interface Context {
  /** Undefined until the server's list of pods is known, or if the server cannot see pods. */
  readonly waiting: WaitingPods | undefined
  /** The start of the newest pull of each image on each node. */
  readonly newest: ReadonlyMap<string, number>
  readonly now: number
}

/** Without a list of pods, a failure counts as current for this long. */
const NEWS_MS = 5 * 60_000

export const podName = ({ namespace, podName: name }: Pick<PodRef, 'namespace' | 'podName'>): string =>
  `${namespace}/${name}`

/** A started pod is listed for a while; it no longer waits. */
export function waitsNow({ tookSeconds }: Pick<Pod, 'tookSeconds'>): boolean {
  return tookSeconds === undefined
}

export function waitingPods(list: PodList | 'missing' | undefined, at: number): WaitingPods | undefined {
  if (list === undefined || list === 'missing' || !list.watching) return undefined
  return { names: new Set(list.pods.filter(waitsNow).map(podName)), at }
}

const place = ({ nodeName, imageRef }: Pull): string => `${nodeName} ${imageRef}`

export function contextOf(pulls: Iterable<Pull>, waiting: WaitingPods | undefined, now: number): Context {
  const newest = new Map<string, number>()
  for (const pull of pulls) {
    const known = newest.get(place(pull))
    if (known === undefined || known < pull.startedAt) newest.set(place(pull), pull.startedAt)
  }
  return { waiting, newest, now }
}

/** The pods that are waiting for this pull now. The waiting pods of an ended pull are taken from the list of pods,
 * because the pull itself no longer changes. */
export function waitersOf(pull: Pull, { waiting }: Context): readonly PodRef[] {
  if (waiting === undefined || pull.pods.length === 0 || !hasEnded(pull)) return pull.pods
  if ((pull.completedAt ?? waiting.at) >= waiting.at) return pull.pods
  return pull.pods.filter(pod => waiting.names.has(podName(pod)))
}

/** How many different pods are waiting for any of these pulls now. */
export function waiterCount(pulls: readonly Pull[], context: Context): number {
  return new Set(pulls.flatMap(pull => waitersOf(pull, context).map(podName))).size
}

const MOST_NAMES = 3

/** The pods that waited for an ended pull: `shop/cart-0, shop/cart-1`; empty if none is known. */
export function waitedNames({ waited }: Pull): string {
  const names = [...new Set(waited.map(podName))]
  const rest = names.length - MOST_NAMES
  return names.slice(0, MOST_NAMES).join(', ') + (rest > 0 ? ` and ${rest} more` : '')
}

/** Whether a later pull of the same image on the same node has replaced this one. */
function isSuperseded(pull: Pull, { newest }: Context): boolean {
  return (newest.get(place(pull)) ?? 0) > pull.startedAt
}

/**
 * - `failing`: it failed and a pod waits for it.
 * - `live`: it is in progress, or it was cancelled and is retried because a pod waits.
 * - `past`: it has ended, and no pod waits for it.
 */
export type Standing = 'failing' | 'live' | 'past'

export function standing(pull: Pull, context: Context): Standing {
  if (!hasEnded(pull)) return 'live'
  if (pull.status === 'completed' || isSuperseded(pull, context)) return 'past'
  if (pull.errorReason === 'canceled') return waitersOf(pull, context).length > 0 ? 'live' : 'past'
  return isWaitedFor(pull, context) ? 'failing' : 'past'
}

function isWaitedFor(pull: Pull, context: Context): boolean {
  if (waitersOf(pull, context).length > 0) return true
  if (context.waiting !== undefined) return false
  return pull.nextRetryAt !== undefined || context.now - (pull.completedAt ?? context.now) < NEWS_MS
}

/** The kubelet retries a failed image: until a byte arrives, the retry belongs to the failure before it. */
export function isRetry(pull: Pull): boolean {
  return (
    pull.attempt > 1 &&
    pull.downloadedBytes === 0 &&
    (pull.status === 'queued' || pull.status === 'resolving')
  )
}

export interface StateCounts {
  readonly queued: number
  readonly downloading: number
  readonly extracting: number
  readonly failed: number
  readonly done: number
  /** Stalled pulls are also counted as downloading. */
  readonly stalled: number
}

/** The counts if there are no pulls. */
export const NO_COUNTS: StateCounts = {
  queued: 0,
  downloading: 0,
  extracting: 0,
  failed: 0,
  done: 0,
  stalled: 0,
}

const TILE: Readonly<Partial<Record<PullState, Exclude<keyof StateCounts, 'stalled'>>>> = {
  queued: 'queued',
  resolving: 'downloading',
  downloading: 'downloading',
  stalled: 'downloading',
  extracting: 'extracting',
  done: 'done',
}

/** Resolving and stalled pulls count as downloading; failed pulls count only if a pod waits for them. */
export function countStates(pulls: Iterable<Pull>, context: Context): StateCounts {
  const counts = { ...NO_COUNTS }
  for (const pull of pulls) {
    const state = pullState(pull)
    const tile = TILE[state]
    if (state === 'stalled') counts.stalled += 1
    if (tile !== undefined) counts[tile] += 1
    else if (state === 'failed' && standing(pull, context) === 'failing') counts.failed += 1
  }
  return counts
}

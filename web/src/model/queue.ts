/** The queue of each node: a queued pull waits for older live pulls on the same node. */
import type { Pull } from '../wire/wire'
import { groupBy } from './failureGroups'
import { clock, count, LEAST_BOUND, soon } from './format'
import { isUnknown } from './images'
import { hasEnded, remainingSeconds } from './pullState'

export interface QueuePlace {
  /** The pull that starts next has position 1. */
  readonly position: number
  /** How many other queued pulls the kubelet requested at the same time as this one. The order of these pulls is
   * unknown. */
  readonly tied?: number
  /** How many of the queued pulls ahead belong only to deleted pods. Such a pull has no row until it starts. */
  readonly deleted?: number
  /** The node's running pulls, followed by the pulls that were queued before this one, both sorted oldest first. */
  readonly ahead: readonly Pull[]
}

/** The live pulls of each node, oldest first. */
export type LivePulls = ReadonlyMap<string, readonly Pull[]>

export function livePulls(pulls: Iterable<Pull>): LivePulls {
  const live = [...pulls].filter(pull => !hasEnded(pull))
  live.sort((a, b) => a.startedAt - b.startedAt || (a.id < b.id ? -1 : 1))
  return groupBy(live, ({ nodeName }) => nodeName)
}

export function queuePlace(pull: Pull, live: LivePulls): QueuePlace | undefined {
  if (pull.status !== 'queued') return undefined
  const ofNode = live.get(pull.nodeName) ?? []
  const active = ofNode.filter(({ id, status }) => id !== pull.id && status !== 'queued')
  const others = ofNode.filter(({ id, status }) => id !== pull.id && status === 'queued')
  const own = ofNode.findIndex(({ id }) => id === pull.id)
  const queued = ofNode.slice(0, Math.max(0, own)).filter(({ status }) => status === 'queued')
  const earlier = others.filter(({ startedAt }) => startedAt < pull.startedAt)
  const deleted = pull.bound?.figures.deletedPodsAhead ?? 0
  return {
    position: earlier.length + 1 + deleted,
    tied: others.filter(({ startedAt }) => startedAt === pull.startedAt).length,
    deleted,
    ahead: [...active, ...queued],
  }
}

/** How many of a node's queued pulls belong only to deleted pods. The list of pulls does not contain them. Each queued
 * pull states how many of them are ahead of it, so those at the end of the queue are not known. */
export function deletedCount(live: readonly Pull[]): number {
  const ofQueue = live.filter(({ status }) => status === 'queued')
  return Math.max(0, ...ofQueue.map(({ bound }) => bound?.figures.deletedPodsAhead ?? 0))
}

/** Reports that pulls are queued behind this one even though no pod is waiting for it. Empty if that is not the case,
 * or if other pulls are running on the node. `gone` is the number of deleted pods that the page still shows. Example:
 * `No pod waits for it; 6 pulls queue behind it, 2 of them for deleted pods`. */
export function blockedWords({ id, nodeName, imageRef, pods }: Pull, live: LivePulls, gone = 0): string {
  const ofNode = live.get(nodeName) ?? []
  const running = ofNode.filter(({ status }) => status !== 'queued')
  const deleted = deletedCount(ofNode)
  const queued =
    ofNode.filter(({ status, bound }) => status === 'queued' && bound?.by === 'queue').length + deleted
  const isAlone = running.length === 1 && running[0]?.id === id
  return isAlone && queued > 0 && pods.length === 0 && !isUnknown(imageRef)
    ? `No pod waits for it; ${count(queued, 'pull queues', 'pulls queue')} behind it${ofDeletedPods(deleted - gone)}`
    : ''
}

const ofDeletedPods = (deleted: number): string =>
  deleted > 0 ? `, ${deleted} of them for deleted pods` : ''

/** When a queued pull will start and finish, in seconds from now, if each pull takes as long as usual. */
export interface Forecast {
  readonly start: number
  readonly ready: number
  /** The first pull without a reliable estimate; undefined if there is none. If it is defined, both times are lower
   * bounds. */
  readonly unknown: Pull | undefined
}

/** Whether the usual duration is based on other nodes, which may be faster than this one. */
export function isTooShort({ status, usualBasis }: Pull): boolean {
  return status === 'queued' && usualBasis === 'other_nodes'
}

/** Assumes that the node starts queued pulls in order and that it keeps pulling as many images at a time as it does
 * now. */
export function forecast(pull: Pull, { ahead, deleted }: QueuePlace, now: number): Forecast {
  /** The expected end time of each running pull, in seconds from now. */
  const ends: number[] = []
  let unknown = deleted ? pull : undefined
  let start = 0
  for (const one of [...ahead, pull]) {
    const isQueued = one.status === 'queued'
    const seconds = isQueued ? one.usualSeconds : remainingSeconds(one, now)
    if (seconds === undefined || isTooShort(one)) unknown ??= one
    start = isQueued ? (ends.sort((a, b) => a - b).shift() ?? 0) : 0
    ends.push(start + (seconds ?? 0))
  }
  return { start, ready: ends.at(-1) ?? 0, unknown }
}

/** The time until a queued pull is ready, as the page shows it. */
export interface ShownTime {
  readonly seconds: number
  /** Whether `seconds` is only a lower bound. */
  readonly isBound: boolean
}

/** Returns undefined if only a lower bound is known and it is too low to be useful. */
export function shownTime(pull: Pull, place: QueuePlace, now: number): ShownTime | undefined {
  const { ready, unknown } = forecast(pull, place, now)
  const isBound = unknown !== undefined
  return isBound && ready < LEAST_BOUND ? undefined : { seconds: ready, isBound }
}

/** `1:14`, or `> 1:14` for a lower bound. */
export function shownWords({ seconds, isBound }: ShownTime): string {
  return isBound ? `> ${clock(seconds)}` : soon(seconds)
}

/** The earliest start, in seconds from now, of a pull that the kubelet has not requested yet. Such a pull starts after
 * all pulls in the node's queue. */
export function queueEnd(ofNode: readonly Pull[], now: number): number {
  const queued = ofNode.filter(({ status }) => status === 'queued')
  const active = ofNode.filter(({ status }) => status !== 'queued')
  const last = queued.at(-1)
  return last === undefined ? 0 : forecast(last, { position: 0, ahead: [...active, ...queued] }, now).start
}

/** `next, after 2 running`, `3rd in queue`; empty if nothing is ahead, because the pull is about to start. */
export function placeWords(place: QueuePlace): string {
  const words = positionWords(place)
  return words === 'next' ? `next, after ${place.ahead.length} running` : words
}

/** `next`, `3rd in queue`, `1st to 3rd in queue`; empty if nothing is ahead. */
export function positionWords({ position, tied = 0, deleted = 0, ahead }: QueuePlace): string {
  if (ahead.length + deleted === 0) return ''
  if (tied > 0) return `${ordinal(position)} to ${ordinal(position + tied)} in queue`
  return position === 1 ? 'next' : `${ordinal(position)} in queue`
}

/** `1st`, `2nd`, `3rd`, `11th`. */
export function ordinal(n: number): string {
  const teen = n % 100 >= 11 && n % 100 <= 13
  const ending = teen ? 'th' : (['th', 'st', 'nd', 'rd'][n % 10] ?? 'th')
  return `${n}${ending}`
}

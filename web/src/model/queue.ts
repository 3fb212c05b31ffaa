/** The queue of each node: a queued pull waits for the older live pulls of its node. */
import type { Pull } from '../wire/wire'
import { groupBy } from './failureGroups'
import { hasEnded, remainingSeconds } from './pullState'

export interface QueuePlace {
  /** 1 for the pull that starts next. */
  readonly position: number
  /** The running pulls of the node, followed by the pulls that were queued earlier; the oldest first in both. */
  readonly ahead: readonly Pull[]
}

/** The live pulls of each node, the oldest first. */
export type LivePulls = ReadonlyMap<string, readonly Pull[]>

export function livePulls(pulls: Iterable<Pull>): LivePulls {
  const live = [...pulls].filter(pull => !hasEnded(pull))
  live.sort((a, b) => a.startedAt - b.startedAt || (a.id < b.id ? -1 : 1))
  return groupBy(live, ({ nodeName }) => nodeName)
}

export function queuePlace(pull: Pull, live: LivePulls): QueuePlace | undefined {
  if (pull.status !== 'queued') return undefined
  const ofNode = live.get(pull.nodeName) ?? []
  const before = ofNode.slice(
    0,
    Math.max(
      0,
      ofNode.findIndex(({ id }) => id === pull.id),
    ),
  )
  const active = ofNode.filter(({ id, status }) => id !== pull.id && status !== 'queued')
  const queued = before.filter(({ status }) => status === 'queued')
  return { position: queued.length + 1, ahead: [...active, ...queued] }
}

/** When a queued pull is expected to start and to end, in seconds from now. Each pull is expected to take as long as
 * usual. */
export interface Forecast {
  readonly start: number
  readonly ready: number
  /** The first pull without an estimate: if there is one, both times are lower bounds. */
  readonly unknown: Pull | undefined
}

/** The node starts the queued pulls in order, and pulls as many images at a time as it does now. */
export function forecast(pull: Pull, { ahead }: QueuePlace, now: number): Forecast {
  /** When each running pull ends. */
  const ends: number[] = []
  let unknown: Pull | undefined
  let start = 0
  for (const one of [...ahead, pull]) {
    const isQueued = one.status === 'queued'
    const seconds = isQueued ? one.usualSeconds : remainingSeconds(one, now)
    if (seconds === undefined) unknown ??= one
    start = isQueued ? (ends.sort((a, b) => a - b).shift() ?? 0) : 0
    ends.push(start + (seconds ?? 0))
  }
  return { start, ready: ends.at(-1) ?? 0, unknown }
}

/** Seconds until a pull that the kubelet has not requested yet can start at the earliest: after the whole queue of its
 * node. */
export function queueEnd(ofNode: readonly Pull[], now: number): number {
  const queued = ofNode.filter(({ status }) => status === 'queued')
  const active = ofNode.filter(({ status }) => status !== 'queued')
  const last = queued.at(-1)
  return last === undefined ? 0 : forecast(last, { position: 0, ahead: [...active, ...queued] }, now).start
}

/** `next, after 2 running`, `3rd in queue`; empty if nothing is ahead, because the pull is about to start. */
export function placeWords(place: QueuePlace): string {
  const running =
    place.position === 1 && place.ahead.length > 0 ? `, after ${place.ahead.length} running` : ''
  return positionWords(place) + running
}

/** `next`, `3rd in queue`; empty if nothing is ahead. */
export function positionWords({ position, ahead }: QueuePlace): string {
  if (ahead.length === 0) return ''
  return position === 1 ? 'next' : `${ordinal(position)} in queue`
}

/** `1st`, `2nd`, `3rd`, `11th`. */
export function ordinal(n: number): string {
  const teen = n % 100 >= 11 && n % 100 <= 13
  const ending = teen ? 'th' : (['th', 'st', 'nd', 'rd'][n % 10] ?? 'th')
  return `${n}${ending}`
}

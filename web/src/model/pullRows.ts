/** The rows of the Pulls view and their order. */
import type { Sort } from '../url/urlState'
import type { Pull } from '../wire/wire'
import { failureGroups, groupBy, isCancelled, severity } from './failureGroups'
import { registryOf } from './images'
import { byFigure, byText, type Compare, type Order, ordered } from './order'
import {
  hasEnded,
  isFailingRetry,
  limitNow,
  type PullState,
  pullState,
  remainingSeconds,
  shownRate,
} from './pullState'
import { type Facts, filtered, parseQuery, type Query, type Span } from './query'
import { blockedWords, type LivePulls, livePulls, type QueuePlace, queuePlace, shownTime } from './queue'
import { type Context, type Standing, standing, waiterCount, waitersOf } from './standing'

/** A row shows one pull, several failures with the same cause, or several completed pulls of one image on one node. Its
 * attributes depend on the states and pods of those pulls, but not on their byte counts. */
export interface PullRow {
  readonly key: string
  readonly ids: readonly string[]
  /** How many pods are currently waiting for this row's pulls. */
  readonly waiters: number
  readonly standing: Standing
  /** The pull's place in its node's queue; undefined if the pull is not queued or if the row has several pulls. */
  readonly place: QueuePlace | undefined
  /** Reports that pulls are queued behind this one even though no pod is waiting for it; empty if that is not the
   * case. */
  readonly blocked: string
}

/** Whether the pull's row is listed among the failures. A retry often fails as well, so the row stays there until the
 * first byte arrives. */
function isFailure(pull: Pull): boolean {
  return isFailingRetry(pull) || pullState(pull) === 'failed'
}

/** The `status:` filter values that match this pull. Stalled and resolving pulls also count as downloading, as they do
 * in the tiles. */
function statusWords(pull: Pull, context: Context): readonly string[] {
  const state = pullState(pull)
  const words: string[] = [state]
  if (state === 'stalled' || state === 'resolving') words.push('downloading')
  if (standing(pull, context) === 'failing') words.push('failing')
  if (pull.slowerThanUsual !== undefined) words.push('slow')
  return words
}

/** The `limit:` filter values that match this pull. */
export function limitsOf(pull: Pull): readonly string[] {
  return limitNow(pull)?.by.split(' ') ?? []
}

/** The periods in which the attempts were queued or running. Each earlier attempt includes its outcome, so a search for failures
 * also finds pulls whose retry succeeded. */
export function spansOf(pull: Pull): readonly Span[] {
  return [
    [pull.queuedAt ?? pull.startedAt, pull.completedAt ?? Infinity],
    ...pull.earlier.map((attempt): Span => {
      const { queuedAt, startedAt, completedAt } = attempt
      return [
        queuedAt ?? startedAt ?? completedAt,
        completedAt,
        isCancelled(attempt) ? 'cancelled' : 'failed',
      ]
    }),
  ]
}

export function pullFacts(pull: Pull, context: Context): Facts {
  return {
    image: [pull.imageRef.toLowerCase()],
    node: [pull.nodeName.toLowerCase()],
    ns: pull.pods.map(pod => pod.namespace.toLowerCase()),
    pod: pull.pods.map(pod => pod.podName.toLowerCase()),
    status: statusWords(pull, context),
    registry: [registryOf(pull).toLowerCase()],
    limit: limitsOf(pull),
    spans: spansOf(pull),
  }
}

/** The order of the sections: first live pulls (with stalled ones at the top), then failures, which the strip also
 * shows, and finally the queue and the history. */
const RANK: Readonly<Record<PullState, number>> = {
  stalled: 0,
  extracting: 1,
  downloading: 1,
  resolving: 1,
  failed: 2,
  cancelled: 3,
  queued: 4,
  unobserved: 5,
  done: 6,
}

interface Section {
  readonly rank: number
  /** Whether a pod is waiting for the pull. Such pulls come first in their section. */
  readonly isWaitedFor: boolean
}

function sectionOf(pull: Pull, context: Context): Section {
  if (standing(pull, context) === 'past') return { rank: RANK.done, isWaitedFor: false }
  const rank = RANK[isFailure(pull) ? 'failed' : pullState(pull)]
  return { rank, isWaitedFor: rank !== RANK.queued && waitersOf(pull, context).length > 0 }
}

const byId: Compare<Pull> = (a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)
const byImage = byText(({ imageRef }: Pull) => imageRef)
const byNode = byText(({ nodeName }: Pull) => nodeName)

/** An order that moves a row only when its state or its waiting pods change. */
export function byAttention(context: Context): Compare<Pull> {
  const sections = new Map<Pull, Section>()
  const section = (pull: Pull): Section => {
    const known = sections.get(pull) ?? sectionOf(pull, context)
    sections.set(pull, known)
    return known
  }
  return (a, b) => {
    const [one, other] = [section(a), section(b)]
    const byWaiting = Number(other.isWaitedFor) - Number(one.isWaitedFor)
    return one.rank - other.rank || byWaiting || within(one.rank, a, b) || byId(a, b)
  }
}

function within(rank: number, a: Pull, b: Pull): number {
  if (rank === RANK.done) return newestEndFirst(a, b)
  if (rank === RANK.failed) return severity(a) - severity(b) || byImageAndNode(a, b)
  // Each node has its own queue, which starts with the oldest pull. Other sections start with the newest pull.
  return rank === RANK.queued ? byNode(a, b) || a.startedAt - b.startedAt : b.startedAt - a.startedAt
}

/** Compares live pulls by a numeric value, such as their speed. Finished pulls come last in both sort directions. */
function whileLive(figure: (pull: Pull) => number | undefined): Compare<Pull> {
  return byFigure(pull => (hasEnded(pull) ? undefined : figure(pull)))
}

export const PULL_ORDER: Order<Pull> = {
  state: (a, b) => RANK[pullState(a)] - RANK[pullState(b)],
  image: byImage,
  node: byNode,
  pods: (a, b) => a.pods.length - b.pods.length,
  progress: (a, b) => a.percent - b.percent,
  speed: whileLive(shownRate),
  size: (a, b) => a.totalBytes - b.totalBytes,
  left: whileLive(({ etaSeconds }) => etaSeconds),
}

/** Sorts by the values that the column shows. For a queued pull, this is the time until it is expected to be ready, or
 * a lower bound. */
function byTimeLeft(pulls: readonly Pull[], live: LivePulls, now: number): Compare<Pull> {
  const left = new Map(pulls.map(pull => [pull, shownSeconds(pull, queuePlace(pull, live), now)]))
  return whileLive(pull => left.get(pull))
}

function shownSeconds(pull: Pull, place: QueuePlace | undefined, now: number): number | undefined {
  if (place === undefined) return remainingSeconds(pull, now)
  return shownTime(pull, place, now)?.seconds
}

/** The columns whose values change constantly. */
const RESTLESS: readonly string[] = ['progress', 'speed', 'left']

export function isRestless(sort: Sort | undefined): boolean {
  return sort !== undefined && RESTLESS.includes(sort.column)
}

/** The pulls that match a search. */
export function searchPulls(pulls: Iterable<Pull>, text: string, context: Context): readonly Pull[] {
  return filtered([...pulls], parseQuery(text, context.now), pull => pullFacts(pull, context))
}

export interface PullQuery {
  readonly query: Query
  readonly sort: Sort | undefined
  /** The open rows. A pull whose row is open is never part of a group. */
  readonly open: readonly string[]
}

export function pullRows(
  pulls: Iterable<Pull>,
  { query, sort, open }: PullQuery,
  context: Context,
): readonly PullRow[] {
  const all = [...pulls]
  const shown = filtered(all, query, pull => pullFacts(pull, context))
  // If the query specifies a period, each pull that was running during that period has its own row.
  const isGrouped = sort === undefined && query.windows.length === 0
  const groups = isGrouped ? groupsOf(shown, open, context) : NO_GROUPS
  const alone = shown.filter(({ id }) => (groups.get(id)?.pulls[0]?.id ?? id) === id)
  // The list for a past moment does not contain all pulls that were queued at that moment.
  const live = query.moments.length === 0 ? livePulls(all) : undefined
  const order = live && sort?.column === 'left' ? { left: byTimeLeft(alone, live, context.now) } : PULL_ORDER
  return ordered(alone, sort, order, byAttention(context)).map(pull => {
    const { key, pulls: ofRow } = groups.get(pull.id) ?? { key: pull.id, pulls: [pull] }
    return {
      key,
      ids: ofRow.map(({ id }) => id),
      waiters: waiterCount(ofRow, context),
      standing: standing(pull, context),
      place: live && ofRow.length === 1 ? queuePlace(pull, live) : undefined,
      blocked: live ? blockedWords(pull, live) : '',
    }
  })
}

interface Group {
  readonly key: string
  /** The first pull determines the position of the row. */
  readonly pulls: readonly Pull[]
}

const NO_GROUPS: ReadonlyMap<string, Group> = new Map()

/** The group of each grouped pull, keyed by the pull's id. */
function groupsOf(
  pulls: readonly Pull[],
  open: readonly string[],
  context: Context,
): ReadonlyMap<string, Group> {
  const found = new Map<string, Group>()
  const closed = pulls.filter(({ id }) => !open.includes(id))
  const failed = closed.filter(isFailure)
  const isPast = (pull: Pull) => standing(pull, context) === 'past'
  for (const { key, pulls: ofCause } of failureGroups(failed.filter(pull => !isPast(pull))))
    add({ key, pulls: [...ofCause].sort(byImageAndNode) })
  for (const { key, pulls: ofCause } of failureGroups(failed.filter(isPast)))
    add({ key: `${key}/past`, pulls: [...ofCause].sort(newestEndFirst) })
  const done = closed.filter(({ status }) => status === 'completed')
  for (const [place, ofPlace] of groupBy(done, ({ nodeName, imageRef }) => `${nodeName}/${imageRef}`)) {
    add({ key: `done/${place}`, pulls: [...ofPlace].sort(newestEndFirst) })
  }
  return found

  function add(group: Group): void {
    if (group.pulls.length < 2 && !open.includes(group.key)) return
    for (const { id } of group.pulls) found.set(id, group)
  }
}

function byImageAndNode(a: Pull, b: Pull): number {
  return byImage(a, b) || byNode(a, b) || byId(a, b)
}

/** Compares whole seconds, so a row keeps its place when the agent's more precise end time replaces the kubelet's. */
function newestEndFirst(a: Pull, b: Pull): number {
  return endSecond(b) - endSecond(a) || byId(a, b)
}

function endSecond({ completedAt, startedAt }: Pull): number {
  return Math.floor((completedAt ?? startedAt) / 1000)
}

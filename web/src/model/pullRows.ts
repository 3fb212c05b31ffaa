/** The rows of the Pulls view and their order. */
import type { Sort } from '../url/urlState'
import type { Pull } from '../wire/wire'
import { failureGroups, groupBy, severity } from './failureGroups'
import { registryOf } from './images'
import { byFigure, byText, type Compare, type Order, ordered } from './order'
import { hasEnded, type PullState, pullState, slowFactor } from './pullState'
import { type Facts, isEmpty, matches, type Query } from './query'
import { livePulls, type QueuePlace, queuePlace } from './queue'
import { type Context, isRetry, type Standing, standing, waiterCount, waitersOf } from './standing'

/** A row shows one pull, several failures with the same cause, or several completed pulls of one image on one node.
 * Its properties depend on states and pods, not on bytes. */
export interface PullRow {
  readonly key: string
  readonly ids: readonly string[]
  /** How many pods are waiting for the pulls of this row now. */
  readonly waiters: number
  readonly standing: Standing
  /** The pull's place in the queue of its node. */
  readonly place: QueuePlace | undefined
}

/** The values of `status:` that match a pull. Stalled and resolving pulls also count as downloading, as in
 * the tiles. */
function statusWords(pull: Pull, context: Context): readonly string[] {
  const state = pullState(pull)
  const words: string[] = [state]
  if (state === 'stalled' || state === 'resolving') words.push('downloading')
  if (state === 'failed' && standing(pull, context) === 'failing') words.push('failing')
  if (slowFactor(pull, context.now) !== undefined) words.push('slow')
  return words
}

/** The value of `limit:` that matches a pull. */
export function limitsOf({ bound }: Pull): readonly string[] {
  return bound === undefined || bound.by === 'unknown' ? [] : [bound.by]
}

export function pullFacts(pull: Pull, context: Context): Facts {
  return {
    image: [pull.imageRef.toLowerCase()],
    node: [pull.nodeName.toLowerCase()],
    ns: pull.pods.map(pod => pod.namespace.toLowerCase()),
    pod: pull.pods.map(pod => pod.podName.toLowerCase()),
    status: statusWords(pull, context),
    registry: [registryOf(pull.imageRef, pull.registry).toLowerCase()],
    limit: limitsOf(pull),
  }
}

/** The order of the sections. Live pulls come first, starting with stalled ones, followed by failures, which the strip
 * shows too. The queue and the history are last. */
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
  /** Whether a pod is waiting for the pull. Such pulls are listed first in their section. */
  readonly isWaitedFor: boolean
}

function sectionOf(pull: Pull, context: Context): Section {
  if (standing(pull, context) === 'past') return { rank: RANK.done, isWaitedFor: false }
  // The kubelet retries a failed image again and again; its row keeps its place during a retry. A queued retry is
  // listed at its place in the queue, which its row names.
  const isQueued = pull.status === 'queued'
  const rank = isRetry(pull) && !isQueued ? RANK.failed : RANK[pullState(pull)]
  return { rank, isWaitedFor: rank !== RANK.queued && waitersOf(pull, context).length > 0 }
}

const byId: Compare<Pull> = (a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)
const byImage = byText(({ imageRef }: Pull) => imageRef)
const byNode = byText(({ nodeName }: Pull) => nodeName)

/** An order in which a row moves only when its state or its waiting pods change. */
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

/** Active pulls by the time until they are ready, with unknown times last; ended pulls have no such time. */
function timeLeft(pull: Pull): number | undefined {
  return hasEnded(pull) ? undefined : (pull.etaSeconds ?? 1e9)
}

export const PULL_ORDER: Order<Pull> = {
  state: (a, b) => RANK[pullState(a)] - RANK[pullState(b)],
  image: byImage,
  node: byNode,
  pods: (a, b) => a.pods.length - b.pods.length,
  progress: (a, b) => a.percent - b.percent,
  speed: (a, b) => a.bytesPerSec - b.bytesPerSec,
  size: (a, b) => a.totalBytes - b.totalBytes,
  left: byFigure(timeLeft),
}

/** The columns whose figures change all the time. */
const RESTLESS: readonly string[] = ['progress', 'speed', 'left']

export function isRestless(sort: Sort | undefined): boolean {
  return sort !== undefined && RESTLESS.includes(sort.column)
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
  const shown = isEmpty(query) ? all : all.filter(pull => matches(query, pullFacts(pull, context)))
  const groups = sort === undefined ? groupsOf(shown, open, context) : NO_GROUPS
  const alone = shown.filter(({ id }) => (groups.get(id)?.pulls[0]?.id ?? id) === id)
  const live = livePulls(all)
  return ordered(alone, sort, PULL_ORDER, byAttention(context)).map(pull => {
    const { key, pulls: ofRow } = groups.get(pull.id) ?? { key: pull.id, pulls: [pull] }
    return {
      key,
      ids: ofRow.map(({ id }) => id),
      waiters: waiterCount(ofRow, context),
      standing: standing(pull, context),
      place: queuePlace(pull, live),
    }
  })
}

interface Group {
  readonly key: string
  /** The first pull determines the position of the row. */
  readonly pulls: readonly Pull[]
}

const NO_GROUPS: ReadonlyMap<string, Group> = new Map()

/** The group that each grouped pull belongs to, by the pull's id. */
function groupsOf(
  pulls: readonly Pull[],
  open: readonly string[],
  context: Context,
): ReadonlyMap<string, Group> {
  const found = new Map<string, Group>()
  const closed = pulls.filter(({ id }) => !open.includes(id))
  const failed = closed.filter(pull => pullState(pull) === 'failed')
  const isFailing = (pull: Pull) => standing(pull, context) === 'failing'
  const retries = groupBy(closed.filter(isRetry), ({ imageRef }) => imageRef)
  for (const { key, pulls: ofCause } of failureGroups(failed.filter(isFailing))) {
    const images = new Set(ofCause.map(({ imageRef }) => imageRef))
    const again = [...images].flatMap(imageRef => retries.get(imageRef) ?? [])
    add({ key, pulls: [...ofCause].sort(byImageAndNode).concat(again) })
  }
  for (const { key, pulls: ofCause } of failureGroups(failed.filter(pull => !isFailing(pull)))) {
    add({ key: `${key}/past`, pulls: [...ofCause].sort(newestEndFirst) })
  }
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

/** Ends are compared in whole seconds, because the kubelet's time of an end is replaced by the agent's more precise
 * time. */
function newestEndFirst(a: Pull, b: Pull): number {
  return endSecond(b) - endSecond(a) || byId(a, b)
}

function endSecond({ completedAt, startedAt }: Pull): number {
  return Math.floor((completedAt ?? startedAt) / 1000)
}

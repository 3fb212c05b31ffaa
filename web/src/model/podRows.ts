/** Pods that wait for images, with the live state of each image, and pods that started recently. */
import type { Container, Pod, PodList, Pull, StartPhase } from '../wire/wire'
import { registryOf } from './images'
import { byFigure, byText, type Compare, type Order } from './order'
import { limitsOf } from './pullRows'
import { knownPercent, type PullState, pullState, remainingSeconds } from './pullState'
import type { Facts } from './query'
import { forecast, type LivePulls, livePulls, type QueuePlace, queueEnd, queuePlace } from './queue'
import { podName, waitsNow } from './standing'

export type ContainerRowState = PullState | 'waiting'

export interface ContainerRow {
  readonly container: Container
  readonly state: ContainerRowState
  readonly pull: Pull | undefined
  readonly place: QueuePlace | undefined
  readonly percent: number | undefined
  readonly etaSeconds: number | undefined
  /** Like `etaSeconds`, but a lower bound if a pull ahead of it has no estimate. */
  readonly etaAtLeast: number | undefined
}

export interface PodRow {
  readonly key: string
  readonly pod: Pod
  readonly containers: readonly ContainerRow[]
  /** The container that delays the pod most. */
  readonly slowest: ContainerRow | undefined
  readonly state: ContainerRowState
  readonly isStarted: boolean
  /** Containers whose images the kubelet has not requested yet, because it pulls other images first. */
  readonly later: readonly ContainerRow[]
  /** Seconds until the last of its images is ready; undefined if one of them has no estimate. */
  readonly etaSeconds: number | undefined
  /** Seconds until all images with an estimate are ready; the pod cannot be ready earlier. */
  readonly etaAtLeast: number | undefined
}

const WORST_FIRST: readonly ContainerRowState[] = [
  'failed',
  'cancelled',
  'stalled',
  'queued',
  'unobserved',
  'resolving',
  'downloading',
  'extracting',
  'waiting',
  'done',
]

/** Pods with problems are first, then the pods that will probably be ready soonest. Pods with an image that is not
 * queued yet are last.
 */
const POD_RANK: Readonly<Record<ContainerRowState, number>> = {
  failed: 0,
  cancelled: 1,
  stalled: 2,
  unobserved: 3,
  extracting: 4,
  downloading: 5,
  resolving: 6,
  queued: 7,
  waiting: 8,
  done: 9,
}

export function podRows(
  pods: readonly Pod[],
  pulls: ReadonlyMap<string, Pull>,
  now: number,
): readonly PodRow[] {
  const live = livePulls(pulls.values())
  return pods.map(pod => podRow(pod, { pulls, live, now }))
}

export interface Around {
  readonly pulls: ReadonlyMap<string, Pull>
  readonly live: LivePulls
  readonly now: number
}

export function podRow(pod: Pod, around: Around): PodRow {
  const containers = pod.containers.map(container => containerRow(container, around))
  const open = containers.filter(({ state }) => state !== 'done')
  const slowest = [...(open.length > 0 ? open : containers)].sort(slowestFirst)[0]
  const known = open.every(({ etaSeconds }) => etaSeconds !== undefined)
  const etas = open.flatMap(({ etaAtLeast }) => etaAtLeast ?? [])
  const isStarted = !waitsNow(pod)
  const later = isStarted ? [] : open.filter(({ state, pull }) => state === 'waiting' && pull === undefined)
  if (etas.length > 0 && later.length > 0)
    etas.push(queueEnd(around.live.get(pod.nodeName) ?? [], around.now))
  return {
    key: pod.uid,
    pod,
    containers,
    slowest,
    isStarted,
    later,
    state: isStarted ? 'done' : (slowest?.state ?? 'waiting'),
    etaSeconds: isStarted || open.length === 0 || !known ? undefined : Math.max(...etas),
    etaAtLeast: etas.length === 0 ? undefined : Math.max(...etas),
  }
}

function containerRow(container: Container, { pulls, live, now }: Around): ContainerRow {
  const pull = container.pullId === undefined ? undefined : pulls.get(container.pullId)
  const place = pull === undefined ? undefined : queuePlace(pull, live)
  const queued = pull === undefined || place === undefined ? undefined : forecast(pull, place, now)
  // The stream is newer than the list.
  const left = pull === undefined ? container.etaSeconds : remainingSeconds(pull, now)
  return {
    container,
    pull,
    place,
    state: pull !== undefined ? pullState(pull) : container.state === 'completed' ? 'done' : container.state,
    percent: pull === undefined ? container.percent : knownPercent(pull),
    etaSeconds: queued?.unknown === undefined ? (queued?.ready ?? left) : undefined,
    etaAtLeast: queued?.ready ?? left,
  }
}

function slowestFirst(a: ContainerRow, b: ContainerRow): number {
  return (
    WORST_FIRST.indexOf(a.state) - WORST_FIRST.indexOf(b.state) ||
    (b.etaSeconds ?? Infinity) - (a.etaSeconds ?? Infinity) ||
    0
  )
}

export function podFacts({ pod, containers }: PodRow): Facts {
  const lower = (words: readonly string[]) => words.map(word => word.toLowerCase())
  return {
    // Two names: the one in the pod's spec (nginx) and the one that the node requested
    // (docker.io/library/nginx:latest).
    image: lower(containers.flatMap(({ container, pull }) => [container.image, pull?.imageRef ?? ''])),
    node: lower([pod.nodeName]),
    ns: lower([pod.namespace]),
    pod: lower([pod.podName, pod.owner ?? '']),
    status: containers.flatMap(({ state }) => (state === 'failed' ? [state, 'failing'] : [state])),
    registry: lower(
      containers.map(({ container, pull }) => registryOf(pull?.imageRef ?? container.image, pull?.registry)),
    ),
    limit: containers.flatMap(({ pull }) => (pull === undefined ? [] : limitsOf(pull))),
  }
}

const byName = byText(({ pod }: PodRow) => podName(pod))

/** A pod with an image that is not queued yet ranks as waiting, unless a pull failed, stalled or was
 * cancelled. */
function rankOf({ state, later, isStarted }: PodRow): number {
  if (isStarted) return POD_RANK.done
  return later.length > 0 && POD_RANK[state] > POD_RANK.stalled ? POD_RANK.waiting : POD_RANK[state]
}

/** The place in the queue of a node. */
const queued = ({ slowest }: PodRow): number => slowest?.place?.position ?? 0

/** Waiting pods are before started ones. Failing pods are first, and the pods that will probably be ready last are at
 * the end. */
export const byTrouble: Compare<PodRow> = (a, b) =>
  rankOf(a) - rankOf(b) || queued(a) - queued(b) || byName(a, b)

const LATER = 2e9

/** A pod without an estimate ranks by its lower bound. Pods without either come last, after them those with an
 * image that is not queued yet. */
function readyIn(row: PodRow): number {
  const { later, etaSeconds, etaAtLeast } = row
  if (later.length > 0) return LATER + (etaAtLeast ?? 0)
  return (etaSeconds ?? (etaAtLeast || 1e9)) + queued(row) / 1000
}

/** Whether neither an estimate nor a lower bound is known. */
export function isBlind({ etaSeconds, etaAtLeast }: PodRow): boolean {
  return etaSeconds === undefined && !etaAtLeast
}

/** A pod that has failed has no time until it is ready, so it is above the others in both directions. Started pods are
 * below them. */
const byReady: Compare<PodRow> = (a, b) => {
  const [x, y] = [a, b].map(readySection) as [number, number]
  return x === y ? readyIn(a) - readyIn(b) : x < y ? -Infinity : Infinity
}

function readySection({ isStarted, state }: PodRow): number {
  return isStarted ? 2 : state === 'failed' ? 0 : 1
}

export interface ReadyLast {
  /** The pod that will probably be ready last, among those with an estimate or a lower bound. */
  readonly row: PodRow
  /** How many pods have neither. */
  readonly blind: number
  /** How many pods cannot be ready, because a pull failed, stalled or was cancelled. */
  readonly stuck: number
}

/** Undefined if fewer than two pods are waiting for a pull. */
export function readyLast(rows: readonly PodRow[]): ReadyLast | undefined {
  const waiting = rows.filter(({ isStarted }) => !isStarted)
  const pulling = waiting.filter(({ state }) => POD_RANK[state] > POD_RANK.stalled)
  const known = pulling.filter(row => !isBlind(row)).sort(byReady)
  const row = known.at(-1)
  if (row === undefined || pulling.length < 2) return undefined
  return { row, blind: pulling.length - known.length, stuck: waiting.length - pulling.length }
}

export const POD_ORDER: Order<PodRow> = {
  state: byTrouble,
  pod: byName,
  owner: byText(({ pod }) => pod.owner ?? ''),
  node: byText(({ pod }) => pod.nodeName),
  image: byText(({ slowest }) => slowest?.container.image ?? ''),
  waiting: byFigure(({ pod }) => pod.waitingSince && -pod.waitingSince),
  ready: byReady,
}

/** The pods from the list if there is one, otherwise those named by unfinished pulls in the stream. */
export function waitingPodCount(pods: PodList | 'missing' | undefined, pulls: Iterable<Pull>): number {
  if (pods !== undefined && pods !== 'missing' && pods.watching) return pods.pods.filter(waitsNow).length
  const found = new Set<string>()
  for (const pull of pulls) {
    if (pull.status === 'completed') continue
    for (const pod of pull.pods) found.add(podName(pod))
  }
  return found.size
}

/** The phases of a pod's start, each with its duration; the last one may still be in progress. */
export function phaseSteps(
  { phases }: Pod,
  now: number,
): readonly (StartPhase & { readonly seconds: number })[] {
  return phases.map(step => ({
    ...step,
    seconds: step.seconds ?? Math.max(0, now - step.startedAt) / 1000,
  }))
}

/** Pods that are waiting for images, with the live state of each image, and pods that started recently. */

import type { Sort } from '../url/urlState'
import type { Container, Pod, PodList, Pull } from '../wire/wire'
import { isCancelled } from './failureGroups'
import { LEAST_BOUND } from './format'
import { registryOf } from './images'
import { byFigure, byText, type Compare, type Order } from './order'
import { limitsOf } from './pullRows'
import { isFailingRetry, knownPercent, type PullState, pullState, remainingSeconds } from './pullState'
import type { Facts } from './query'
import { forecast, type LivePulls, livePulls, type QueuePlace, queueEnd, queuePlace } from './queue'
import { podName, waitsNow } from './standing'
import { imageSeconds } from './startPhases'

export type ContainerRowState = PullState | 'waiting'

export interface ContainerRow {
  readonly container: Container
  readonly state: ContainerRowState
  readonly pull: Pull | undefined
  readonly place: QueuePlace | undefined
  readonly percent: number | undefined
  readonly etaSeconds: number | undefined
  /** Like `etaSeconds`, but a lower bound if a pull ahead in the queue has no estimate. */
  readonly etaAtLeast: number | undefined
}

export interface PodRow {
  readonly key: string
  readonly pod: Pod
  readonly containers: readonly ContainerRow[]
  /** The container that delays the pod the most. */
  readonly slowest: ContainerRow | undefined
  readonly state: ContainerRowState
  readonly isStarted: boolean
  /** For a started pod, how many seconds it took until its images were on the node; undefined if it pulled none. */
  readonly imageSeconds: number | undefined
  /** How many attempts to pull an image of this pod have failed. */
  readonly failures: number
  /** Containers whose images the kubelet has not requested yet, because it is pulling other images first. */
  readonly later: readonly ContainerRow[]
  /** Seconds until the last of the pod's images is ready; undefined if an image has no estimate. */
  readonly etaSeconds: number | undefined
  /** Seconds until all images that have an estimate are ready; the pod cannot be ready sooner. */
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

/** Pods with problems come first, then the pods that are expected to be ready soonest. Pods with an image that is not
 * queued yet come last. */
const READY_FIRST: readonly ContainerRowState[] = [
  'failed',
  'cancelled',
  'stalled',
  'unobserved',
  'extracting',
  'downloading',
  'resolving',
  'queued',
  'waiting',
  'done',
]

const podRank = (state: ContainerRowState): number => READY_FIRST.indexOf(state)

/** Whether a pod in this state cannot become ready until a problem has been solved. */
export function hasProblem({ state }: Pick<PodRow, 'state'>): boolean {
  return podRank(state) <= podRank('stalled')
}

export function podRows(
  pods: readonly Pod[],
  pulls: ReadonlyMap<string, Pull>,
  now: number,
): readonly PodRow[] {
  const live = livePulls(pulls.values())
  const failures = failuresByPod(pulls.values())
  return pods.map(pod => podRow(pod, { pulls, live, failures, now }))
}

/** The number of failed attempts for each pod that is or was waiting for a failed or retried pull. */
function failuresByPod(pulls: Iterable<Pull>): ReadonlyMap<string, number> {
  const found = new Map<string, number>()
  for (const pull of pulls) {
    const { attempt, status, pods, waited, earlier } = pull
    const ended = status === 'failed' ? attempt : attempt - 1
    const failed = ended - [...earlier, pull].filter(isCancelled).length
    if (failed > 0)
      for (const pod of [...pods, ...waited])
        found.set(podName(pod), Math.max(failed, found.get(podName(pod)) ?? 0))
  }
  return found
}

export interface Around {
  readonly pulls: ReadonlyMap<string, Pull>
  readonly live: LivePulls
  readonly failures?: ReadonlyMap<string, number>
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
  const failures = around.failures?.get(podName(pod)) ?? 0
  return {
    key: pod.uid,
    pod,
    containers,
    slowest,
    isStarted,
    imageSeconds: isStarted ? imageSeconds({ pod, failures }) : undefined,
    failures,
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
  // The stream is more recent than the list.
  const left = pull === undefined ? container.etaSeconds : remainingSeconds(pull, now)
  return {
    container,
    pull,
    place,
    state: pull === undefined ? listedState(container) : pulledState(pull),
    percent: pull === undefined ? container.percent : knownPercent(pull),
    etaSeconds: queued?.unknown === undefined ? (queued?.ready ?? left) : undefined,
    etaAtLeast: queued?.ready ?? left,
  }
}

/** The state of a container whose pull is not in the stream. If the list names a failed pull, the stream is ahead: the
 * pull is gone because its pod was deleted. */
function listedState({ state, pullId }: Container): ContainerRowState {
  if (state === 'completed') return 'done'
  return state === 'failed' && pullId !== undefined ? 'waiting' : state
}

/** A queued retry of a failed pull counts as failed, as it does in the strip and in the tiles. */
const pulledState = (pull: Pull): PullState => (isFailingRetry(pull) ? 'failed' : pullState(pull))

function slowestFirst(a: ContainerRow, b: ContainerRow): number {
  return (
    WORST_FIRST.indexOf(a.state) - WORST_FIRST.indexOf(b.state) ||
    (b.etaSeconds ?? Infinity) - (a.etaSeconds ?? Infinity) ||
    0
  )
}

export function podFacts({ pod, containers, isStarted }: PodRow): Facts {
  const lower = (words: readonly string[]) => words.map(word => word.toLowerCase())
  return {
    // A search finds both the name in the pod's spec (nginx) and the name that the node requested
    // (docker.io/library/nginx:latest).
    image: lower(containers.flatMap(({ container, pull }) => [container.image, pull?.imageRef ?? ''])),
    node: lower([pod.nodeName]),
    ns: lower([pod.namespace]),
    pod: lower([pod.podName, pod.owner ?? '']),
    status: isStarted ? ['started'] : containers.flatMap(statusWords),
    registry: lower(
      containers.map(({ container, pull }) => registryOf(pull ?? { imageRef: container.image })),
    ),
    limit: containers.flatMap(({ pull }) => (pull === undefined ? [] : limitsOf(pull))),
    spans: [[pod.waitingSince ?? pod.startedAt ?? 0, pod.startedAt ?? Infinity]],
  }
}

function statusWords({ state, pull }: ContainerRow): readonly string[] {
  const own = pull === undefined ? state : pullState(pull)
  return state === 'failed' ? [own, 'failing'] : [own]
}

const byName = byText(({ pod }: PodRow) => podName(pod))

/** A pod with an image that is not queued yet ranks as waiting unless a pull has failed, stalled or been cancelled. A
 * pod that has its images but has not started yet ranks before the started pods. */
function rankOf(row: PodRow): number {
  if (row.isStarted) return READY_FIRST.length
  return podRank(row.later.length > 0 && !hasProblem(row) ? 'waiting' : row.state)
}

/** The place in the node's queue. */
export const queuePosition = ({ slowest }: PodRow): number => slowest?.place?.position ?? 0

/** A pod whose pull failed keeps its place in the list while the next attempt is queued. */
const queuedUnlessFailed = (row: PodRow): number => (row.state === 'failed' ? 0 : queuePosition(row))

const startedAt = ({ pod }: PodRow): number => pod.startedAt ?? 0

/** Waiting pods come before started pods. Among the waiting pods, failing pods come first, followed by the other pods,
 * soonest ready first. Among the started pods, the newest comes first. */
export const byTrouble: Compare<PodRow> = (a, b) =>
  rankOf(a) - rankOf(b) ||
  startedAt(b) - startedAt(a) ||
  queuedUnlessFailed(a) - queuedUnlessFailed(b) ||
  byName(a, b)

/** Waiting pods come before started pods in both sort directions. */
const byWait: Compare<PodRow> = (a, b) => {
  if (a.isStarted !== b.isStarted) return a.isStarted ? Infinity : -Infinity
  return byFigure((row: PodRow) => row.imageSeconds ?? (row.pod.waitingSince && -row.pod.waitingSince))(a, b)
}

/** The heading above the started pods; undefined if they are not listed below the waiting pods. */
export function startedHeading(sort: Sort | undefined): string | undefined {
  if (sort === undefined || sort.column === 'ready') return 'Started, newest first'
  return sort.column === 'waiting'
    ? `Started, ${sort.descending ? 'longest' : 'shortest'} wait for images first`
    : undefined
}

const LATER = 2e9

/** A pod without an estimate ranks by its lower bound. Pods without a lower bound that is high enough to be shown come
 * next, and pods with an image that is not queued yet come last. */
function readyIn(row: PodRow): number {
  const { later, etaSeconds, etaAtLeast } = row
  if (later.length > 0) return LATER + (etaAtLeast ?? 0)
  const bound = etaAtLeast === undefined || etaAtLeast < LEAST_BOUND ? 1e9 : etaAtLeast
  return (etaSeconds ?? bound) + queuePosition(row) / 1000
}

/** True if all of a pod's images are on its node but the pod has not started yet. */
export function hasImages({ state, isStarted }: PodRow): boolean {
  return state === 'done' && !isStarted
}

/** A failed pod has no expected ready time, so it stays above the other pods in both sort directions. Pods that have
 * started stay at the bottom. */
const byReady: Compare<PodRow> = (a, b) => {
  const [x, y] = [a, b].map(readySection) as [number, number]
  return x === y ? readyIn(a) - readyIn(b) : x < y ? -Infinity : Infinity
}

function readySection({ isStarted, state }: PodRow): number {
  return isStarted ? 2 : state === 'failed' ? 0 : 1
}

export const POD_ORDER: Order<PodRow> = {
  state: byTrouble,
  pod: byName,
  owner: byText(({ pod }) => pod.owner ?? ''),
  node: byText(({ pod }) => pod.nodeName),
  image: byText(({ slowest }) => slowest?.container.image ?? ''),
  waiting: byWait,
  ready: byReady,
}

/** The number of waiting pods in the list of pods. If that list is not available, the number of pods named in the
 * stream's unfinished pulls. */
export function waitingPodCount(pods: PodList | 'missing' | undefined, pulls: Iterable<Pull>): number {
  if (pods !== undefined && pods !== 'missing' && pods.watching) return pods.pods.filter(waitsNow).length
  const unfinished = [...pulls].filter(({ status }) => status !== 'completed')
  return new Set(unfinished.flatMap(pull => pull.pods.map(podName))).size
}

/** One row per image, with its progress across the nodes. */
import type { Pod, Pull } from '../wire/wire'
import { groupBy, ownerOf, ownersOf } from './failureGroups'
import { ANY_MOMENT, boundWords, joined, percent } from './format'
import { fullReference, isUnknown, registryOf } from './images'
import { timeLeftWords } from './limit'
import { byFigure, byText, type Compare, median, type Order } from './order'
import { pullFacts } from './pullRows'
import { hasEnded, hasFailed, knownPercent, progressFigure, stateWord, tookSeconds } from './pullState'
import { type Facts, KEYS, type Key, type Span } from './query'
import {
  forecast,
  type LivePulls,
  livePulls,
  type QueuePlace,
  queueEnd,
  queuePlace,
  shownTime,
  shownWords,
} from './queue'
import { type Context, standing, waitsNow } from './standing'

export interface ImageRow {
  readonly imageRef: string
  readonly registry: string
  /** The latest pull on each node (unfinished pulls first), and the pull that took longest. */
  readonly pulls: readonly Pull[]
  readonly done: number
  readonly pulling: number
  /** The known percentages of the pulls in progress, except for those that are extracting. */
  readonly percents: readonly number[]
  readonly extracting: number
  readonly queued: number
  readonly failed: number
  /** The number of cancelled pulls plus the number of failed pulls that no pod is waiting for. */
  readonly stopped: number
  /** Nodes where a pod is waiting for this image but the kubelet has not requested it yet. */
  readonly waiting: readonly string[]
  readonly nodeCount: number
  /** The node that is expected to finish last, and what it is doing; undefined if no node still needs the image. */
  readonly last: Late | undefined
  /** The workload that is rolling out this image: `Deployment/web in shop`. Undefined unless several nodes need the
   * image, it is used only by containers of this workload's pods, and some of these nodes do not have it yet. */
  readonly workload: string | undefined
  /** When the first pull that the server still keeps started, or when the first waiting pod began to wait. */
  readonly since: number
  /** How many completed pulls on all nodes the server still keeps. */
  readonly completed: number
  readonly medianSeconds: number | undefined
  /** The longest completed pull that downloaded something, or a running pull that has already taken longer. */
  readonly longest: Pull | undefined
  readonly longestSeconds: number | undefined
  readonly imageBytes: number
}

/** A node that still needs the image. */
export interface Late {
  readonly node: string
  readonly state: string
  /** The node's pull; undefined if the kubelet has not requested the image yet, or if the pull is failing. */
  readonly pull?: Pull
  readonly place?: QueuePlace | undefined
  /** The earliest start, in seconds from now, of a pull that the kubelet has not requested yet. */
  readonly startsIn?: number
}

/** `downloading 58 %, 7:02 left`. Progress and time are omitted if they are not known. */
export function lateWords({ state, pull, place, startsIn = 0 }: Late, now: number): string {
  if (pull === undefined) {
    const bound = boundWords(startsIn)
    return joined(', ', state, bound && `${bound} left`)
  }
  // Once all bytes have arrived, the percentage says nothing about the time left.
  const figure = pull.status === 'queued' || isExtracting(pull) ? '' : progressFigure(pull)
  // The range of progress of all nodes is in percent.
  const layers = figure.includes('/') && `${percent(pull.percent)}, ${figure} layers`
  const progress = joined(' ', state, layers || figure)
  return joined(', ', progress, leftWords(pull, place, now))
}

/** A queued pull first waits for the pulls ahead of it. */
function leftWords(pull: Pull, place: QueuePlace | undefined, now: number): string | undefined {
  const left = place === undefined ? timeLeftWords(pull, now) : queuedWords(pull, place, now)
  return left === undefined || left === ANY_MOMENT ? left : `${left} left`
}

function queuedWords(pull: Pull, place: QueuePlace, now: number): string | undefined {
  const time = shownTime(pull, place, now)
  return time && shownWords(time)
}

/** The progress of the pulls of an image: `8 % to 64 %, 1 extracting`. If the progress of some of them is not known, `up
 * to 64 %`. */
export function rangeWords({ pulling, percents, extracting }: ImageRow): string {
  const words = extracting === pulling ? 'extracting' : `${extracting} extracting`
  return joined(', ', downloadWords(percents, pulling - extracting), extracting > 0 && words)
}

function downloadWords(percents: readonly number[], downloads: number): string {
  if (percents.length === 0) return ''
  const [lowest, highest] = [Math.min(...percents), Math.max(...percents)].map(percent)
  if (percents.length < downloads) return `up to ${highest}`
  return lowest === highest ? `${highest}` : `${lowest} to ${highest}`
}

const isExtracting = ({ status }: Pull): boolean => status === 'extracting'

export function imageRows(
  pulls: Iterable<Pull>,
  pods: readonly Pod[],
  context: Context,
): readonly ImageRow[] {
  const all = [...pulls]
  const known = all.filter(({ imageRef }) => !isUnknown(imageRef)).sort((a, b) => a.startedAt - b.startedAt)
  const byImage = groupBy(known, ({ imageRef }) => imageRef)
  const waiting = waitingNodes(pods)
  const users = waitingUsers(pods)
  const live = livePulls(all)
  return [...new Set([...byImage.keys(), ...waiting.keys()])].map(imageRef => {
    // The latest pull on each node.
    const ofImage = [...new Map(byImage.get(imageRef)?.map(pull => [pull.nodeName, pull])).values()]
    const isPulled = (node: string) =>
      ofImage.some(({ nodeName, status }) => nodeName === node && status !== 'failed')
    const nodes = [...(waiting.get(imageRef) ?? [])].filter(node => !isPulled(node))
    const completed = byImage.get(imageRef)?.filter(({ status }) => status === 'completed') ?? []
    return imageRow(imageRef, ofImage, completed, nodes, {
      context,
      live,
      users: users.get(imageRef) ?? [],
    })
  })
}

interface User {
  readonly pod: Pod
  readonly image: string
  readonly isApp: boolean
}

/** The containers of waiting pods, by image. */
function waitingUsers(pods: readonly Pod[]): ReadonlyMap<string, readonly User[]> {
  const users = pods
    .filter(waitsNow)
    .flatMap(pod => pod.containers.map(({ image, kind }) => ({ pod, image, isApp: kind === 'app' })))
  return groupBy(users, ({ image }) => fullReference(image))
}

function workloadOf(pulls: readonly Pull[], users: readonly User[]): string | undefined {
  const pod = users.find(({ isApp }) => isApp)?.pod
  const owners = new Set([...users.map(user => ownerOf(user.pod)), ...pulls.flatMap(ownersOf)])
  return pod?.owner !== undefined && owners.size === 1 ? `${pod.owner} in ${pod.namespace}` : undefined
}

/** For each image, the nodes on which pods are waiting for it but no pull of it has started. */
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
  completed: readonly Pull[],
  waiting: readonly string[],
  {
    context,
    live,
    users,
  }: { readonly context: Context; readonly live: LivePulls; readonly users: readonly User[] },
): ImageRow {
  const count = (fits: (pull: Pull) => boolean) => pulls.filter(fits).length
  // Pulls on nodes that already had the image do not show how long a download takes.
  const downloads = completed.filter(pull => pull.downloadedBytes > 0).sort(byFigure(tookSeconds))
  const needs = new Map(pulls.map(pull => [pull, need(pull, live, context.now)]))
  const slowestFirst = [...pulls].sort((a, b) => (needs.get(b) ?? 0) - (needs.get(a) ?? 0))
  const isFailing = (pull: Pull) => standing(pull, context) === 'failing'
  const isLive = (pull: Pull) => !hasEnded(pull) && !isFailing(pull)
  const running = pulls
    .filter(pull => isLive(pull) && pull.status !== 'queued' && pull.status !== 'unobserved')
    .sort((a, b) => a.startedAt - b.startedAt)[0]
  const ranSeconds = running && (context.now - running.startedAt) / 1000
  const tookLongest = downloads.at(-1)
  const longest = tookLongest && tookSeconds(tookLongest)
  const isOverdue = ranSeconds !== undefined && longest !== undefined && ranSeconds > longest
  const nodeCount = new Set([...pulls.map(({ nodeName }) => nodeName), ...waiting]).size
  const late = (pull: Pull): Late => ({ node: pull.nodeName, state: stateWord(pull).toLowerCase() })
  const notRequested = waiting
    .map(node => ({ node, state: 'waiting', startsIn: queueEnd(live.get(node) ?? [], context.now) }))
    .sort((a, b) => b.startsIn - a.startsIn)[0]
  const slowest = slowestFirst.find(isLive)
  const isRequestedLast =
    slowest !== undefined && leftSeconds(slowest, live, context.now) >= (notRequested?.startsIn ?? 0)
  const unfinishedLast = isRequestedLast
    ? { ...late(slowest), pull: slowest, place: queuePlace(slowest, live) }
    : notRequested
  const pulling = pulls.filter(pull => isLive(pull) && pull.status !== 'queued')
  const row = {
    imageRef,
    registry: registryOf({ imageRef, registry: pulls[0]?.registry }),
    pulls: [...new Set([...slowestFirst, ...(tookLongest ? [tookLongest] : [])])],
    done: count(({ status }) => status === 'completed'),
    queued: count(pull => isLive(pull) && pull.status === 'queued'),
    failed: count(isFailing),
    stopped: count(pull => pull.status === 'failed' && !isFailing(pull)),
    pulling: pulling.length,
    percents: pulling.flatMap(pull => (isExtracting(pull) ? [] : (knownPercent(pull) ?? []))),
    extracting: pulling.filter(isExtracting).length,
    waiting,
    nodeCount,
    // A failed pull may never succeed, so a node that is still pulling or waiting is preferred.
    last: unfinishedLast ?? slowestFirst.filter(isFailing).map(late)[0],
    completed: completed.length,
    medianSeconds: median(downloads.flatMap(pull => tookSeconds(pull) ?? [])),
    longest: isOverdue ? running : tookLongest,
    longestSeconds: isOverdue ? ranSeconds : longest,
    imageBytes: Math.max(0, ...pulls.map(pull => pull.imageBytes)),
    since: Math.min(
      ...[...pulls, ...completed].map(({ startedAt }) => startedAt),
      ...users.map(({ pod }) => pod.waitingSince ?? Infinity),
    ),
  }
  return { ...row, workload: nodeCount > 1 && unfinished(row) > 0 ? workloadOf(pulls, users) : undefined }
}

/** The seconds until a live pull is ready, as far as they are known. */
function leftSeconds(pull: Pull, live: LivePulls, now: number): number {
  const place = queuePlace(pull, live)
  return place === undefined ? (pull.etaSeconds ?? 0) : forecast(pull, place, now).ready
}

/** What `need` returns for a live pull, apart from the time left. */
const LIVE = 1e9

/** Ranks a pull's node by how much it delays the rollout: failed nodes first, then the nodes with the longest remaining
 * time, then the nodes that were slowest to complete. A queued pull first waits for the pulls ahead of it. */
function need(pull: Pull, live: LivePulls, now: number): number {
  if (hasFailed(pull)) return 3 * LIVE
  if (pull.status === 'completed') return tookSeconds(pull) ?? 0
  const place = queuePlace(pull, live)
  if (place === undefined) return LIVE + (pull.etaSeconds ?? LIVE)
  const { ready, unknown } = forecast(pull, place, now)
  return LIVE + ready + (unknown === undefined ? 0 : LIVE)
}

/** The searchable properties of an image. If the image has no pulls, only its name and nodes are known. */
export function imageFacts({ imageRef, pulls, waiting }: ImageRow, context: Context): Facts {
  const facts = factsOf(pulls, context)
  if (waiting.length === 0) return facts
  return {
    ...facts,
    image: [...facts.image, imageRef.toLowerCase()],
    node: [...facts.node, ...waiting.map(node => node.toLowerCase())],
    status: [...facts.status, 'waiting'],
    registry: [...facts.registry, registryOf({ imageRef }).toLowerCase()],
  }
}

/** Combines the searchable properties of several pulls into those of one row. */
export function factsOf(pulls: readonly Pull[], context: Context): Required<Facts> {
  const merged = Object.fromEntries(KEYS.map(key => [key, [] as string[]])) as Record<Key, string[]>
  const spans: Span[] = []
  for (const pull of pulls) {
    const facts = pullFacts(pull, context)
    for (const key of KEYS) merged[key].push(...(facts[key] ?? []))
    spans.push(...facts.spans)
  }
  return { ...merged, spans }
}

/** How many nodes still need the image. Nodes on which the pull was stopped no longer need the image. */
export const unfinished = ({ pulling, queued, failed, waiting }: Omit<ImageRow, 'workload'>): number =>
  pulling + queued + failed + waiting.length

const byImage = byText(({ imageRef }: ImageRow) => imageRef)

const isMarked = ({ workload }: ImageRow): number => Number(workload !== undefined)

/** Unfinished images come first: the rollouts of single workloads, the newest first, and then other images, the one on
 * the most nodes first. */
export const byRollout: Compare<ImageRow> = (a, b) =>
  Math.sign(unfinished(b)) - Math.sign(unfinished(a)) ||
  isMarked(b) - isMarked(a) ||
  (isMarked(a) && b.since - a.since) ||
  b.nodeCount - a.nodeCount ||
  byImage(a, b)

export const IMAGE_ORDER: Order<ImageRow> = {
  image: byImage,
  rollout: (a, b) => a.done / a.nodeCount - b.done / b.nodeCount,
  pulling: (a, b) => a.pulling - b.pulling,
  nodes: (a, b) => unfinished(a) - unfinished(b) || a.nodeCount - b.nodeCount,
  size: (a, b) => a.imageBytes - b.imageBytes,
  completed: (a, b) => a.completed - b.completed,
  median: byFigure(({ medianSeconds }) => medianSeconds),
  worst: byFigure(({ longestSeconds }) => longestSeconds),
}

/**
 * Validates everything that arrives from the server. Each `parse…` function takes the result of JSON.parse and returns
 * the page's own types, or throws a `WireError` that identifies the field. Unknown fields are ignored, and fields with
 * a default may be missing, so this page works with older and newer servers. Times are converted to milliseconds since
 * 1970.
 */
import {
  type Bound,
  type ContainerWait,
  type EarlierAttempt,
  ERROR_REASON,
  type ErrorReason,
  FACTOR,
  LAYER_PHASE,
  type LayerPhase,
  type LayerStatus,
  NODE_STATE,
  type NodeStatus,
  PERCENT_BASIS,
  type PodCorrelation,
  type PodStart,
  type PodWait,
  PULL_PHASE,
  type PullPhase,
  type PullStatus,
  type RegistryStatus,
  type RegistryThroughput,
  type RemovedPull,
  type Reset,
  type ThroughputList,
  type UnobservedNodes,
  USUAL_BASIS,
  WAIT_STATE,
  type Hello as WireHello,
  type NodeList as WireNodeList,
  type PodList as WirePodList,
  type PullEvent as WirePullEvent,
  type PullList as WirePullList,
  type StartPhase as WireStartPhase,
} from './generated'
import { Reader } from './reader'

export type { ErrorReason, LayerPhase, NodeState } from './generated'

const CONTAINER_KINDS = ['init', 'app', 'ephemeral', 'volume'] as const

export type LimitName = (typeof FACTOR)[number]
/** `volume` means an image volume. */
export type ContainerKind = (typeof CONTAINER_KINDS)[number]

function reasonOf(word: string | undefined): ErrorReason | undefined {
  return word === undefined ? undefined : (ERROR_REASON.find(reason => reason === word) ?? 'unknown')
}

export type Layer = ReturnType<typeof parseLayer>

function parseLayer(value: unknown) {
  const from = new Reader<LayerStatus>(value, 'layer')
  const completedAt = from.optionalTime('completedAt')
  const downloadedBytes = from.amount('downloadedBytes')
  // Reports from v0.1.0 agents contain no layer states.
  const guess: LayerPhase =
    completedAt !== undefined ? 'downloaded' : downloadedBytes > 0 ? 'downloading' : 'waiting'
  return {
    digest: from.text('digest'),
    totalBytes: from.amount('totalBytes'),
    downloadedBytes,
    cachedBytes: from.amount('cachedBytes'),
    bytesPerSec: from.amount('bytesPerSec'),
    totalKnown: from.flag('totalKnown'),
    state: from.oneOf('state', LAYER_PHASE) ?? guess,
    fetchedBy: from.optionalText('fetchedBy'),
    startedAt: from.optionalTime('startedAt'),
    completedAt,
    extractStartedAt: from.optionalTime('extractStartedAt'),
    extractedAt: from.optionalTime('extractedAt'),
  } as const
}

export type PodRef = ReturnType<typeof parsePodRef>

function parsePodRef(value: unknown) {
  const from = new Reader<PodCorrelation>(value, 'pod')
  return {
    namespace: from.text('namespace'),
    podName: from.text('podName'),
    container: from.optionalText('container') ?? '',
    owner: from.optionalText('owner'),
    waitingReason: from.optionalText('waitingReason'),
  } as const
}

function statusOf(from: Reader<PullStatus>): PullPhase {
  const known = from.oneOf('status', PULL_PHASE)
  if (known !== undefined) return known
  if (from.optionalText('error') !== undefined) return 'failed'
  return from.optionalTime('completedAt') !== undefined ? 'completed' : 'downloading'
}

export type Limit = NonNullable<ReturnType<typeof parseLimit>>

function parseLimit(from: Reader<Bound> | undefined) {
  if (from === undefined) return undefined
  return {
    by: from.oneOf('by', FACTOR) ?? 'unknown',
    why: from.optionalText('why') ?? '',
    figures: from.numbers('figures'),
  } as const
}

export type Attempt = ReturnType<typeof parseAttempt>

function parseAttempt(value: unknown) {
  const from = new Reader<EarlierAttempt>(value, 'attempt')
  return {
    attempt: from.amount('attempt'),
    startedAt: from.optionalTime('startedAt'),
    completedAt: from.time('completedAt'),
    errorReason: reasonOf(from.optionalText('errorReason')) ?? 'unknown',
    error: from.optionalText('error'),
    percent: from.amount('percent'),
    queuedAt: from.optionalTime('queuedAt'),
  } as const
}

const NO_ATTEMPTS: readonly Attempt[] = []
const NO_PODS: readonly PodRef[] = []
const NO_MIRRORS: readonly string[] = []

export type Pull = ReturnType<typeof parsePull>

/** A pull, with its values as of `updatedAt`. */
export function parsePull(value: unknown, updatedAt = 0) {
  const from = new Reader<PullStatus>(value, 'pull')
  const pods = from.list('pods', parsePodRef) ?? NO_PODS
  return {
    id: from.text('id'),
    nodeName: from.text('nodeName'),
    imageRef: from.text('imageRef'),
    registry: from.optionalText('registry'),
    manifestDigest: from.optionalText('manifestDigest'),
    refGuessed: from.flag('refGuessed'),
    status: statusOf(from),
    totalBytes: from.amount('totalBytes'),
    downloadedBytes: from.amount('downloadedBytes'),
    extractedBytes: from.amount('extractedBytes'),
    imageBytes: from.amount('imageBytes'),
    cachedBytes: from.amount('cachedBytes'),
    remoteBytes: from.amount('remoteBytes'),
    totalKnown: from.flag('totalKnown'),
    bytesPerSec: from.amount('bytesPerSec'),
    percent: from.amount('percent'),
    percentBasis: from.oneOf('percentBasis', PERCENT_BASIS) ?? 'bytes',
    etaSeconds: from.optionalAmount('etaSeconds'),
    /** Why a live pull has no estimate. */
    etaMissing: from.optionalText('etaMissing'),
    usualSeconds: from.optionalAmount('usualSeconds'),
    usualBasis: from.oneOf('usualBasis', USUAL_BASIS),
    /** The number of earlier pulls from which the usual duration was derived. */
    usualCount: from.optionalAmount('usualCount'),
    /** Whether the earlier pulls are numerous and similar enough for a pull to be called slow. */
    usualComparable: from.flag('usualComparable'),
    /**
     * How many times longer than usual the pull takes. This is undefined if the pull is not slower than usual.
     */
    slowerThanUsual: from.optionalAmount('slowerThanUsual'),
    layerCount: from.amount('layerCount'),
    layersDone: from.amount('layersDone'),
    attempt: from.optionalAmount('attempt') ?? 1,
    /** The attempts before this one, oldest first. */
    earlier: from.list('earlierAttempts', parseAttempt) ?? NO_ATTEMPTS,
    failingSince: from.optionalTime('failingSince'),
    /** When the kubelet requested the image, if the pull was queued before it started. */
    queuedAt: from.optionalTime('queuedAt'),
    startedAt: from.time('startedAt'),
    /** When the last byte of a completed pull arrived. */
    downloadedAt: from.optionalTime('downloadedAt'),
    completedAt: from.optionalTime('completedAt'),
    stalledSince: from.optionalTime('stalledSince'),
    error: from.optionalText('error'),
    errorReason: reasonOf(from.optionalText('errorReason')),
    nextRetryAt: from.optionalTime('nextRetryAt'),
    snapshotter: from.optionalText('snapshotter'),
    via: from.list('via', String) ?? NO_MIRRORS,
    bound: parseLimit(from.part('bound')),
    pods: pods.length === 0 ? NO_PODS : pods,
    waited: from.list('waited', parsePodRef) ?? NO_PODS,
    /**
     * The layers; undefined if they were not requested for this pull. A pull without layers has an empty array.
     */
    layers: from.list('layers', parseLayer),
    updatedAt,
  } as const
}

/** The list of all pulls, each in the form in which the stream sends it. */
export function parsePullList(value: unknown, updatedAt = 0): readonly Pull[] {
  const from = new Reader<WirePullList>(value, 'list')
  return from.list('pulls', pull => parsePull(pull, updatedAt)) ?? []
}

export type PullEvent =
  | { readonly kind: 'changed'; readonly timestamp: number; readonly pull: Pull }
  | { readonly kind: 'removed'; readonly timestamp: number; readonly id: string }

export function parsePullEvent(value: unknown): PullEvent {
  const from = new Reader<WirePullEvent>(value, 'event')
  const timestamp = from.time('timestamp')
  if (from.text('type') === 'pull.removed') {
    return { kind: 'removed', timestamp, id: new Reader<RemovedPull>(from.raw('pull'), 'pull').text('id') }
  }
  return { kind: 'changed', timestamp, pull: parsePull(from.raw('pull'), timestamp) }
}

export type Hello = ReturnType<typeof parseHello>

export function parseHello(value: unknown) {
  const from = new Reader<WireHello>(value, 'hello')
  return {
    version: from.text('version'),
    time: from.time('time'),
    pulls: from.optionalAmount('pulls'),
  } as const
}

/** How many pulls follow a `reset` event; undefined if the server is too old to report it. */
export function parseReset(value: unknown): number | undefined {
  return new Reader<Reset>(value, 'reset').optionalAmount('pulls')
}

export type ClusterNode = ReturnType<typeof parseNode>

function parseNode(value: unknown) {
  const from = new Reader<NodeStatus>(value, 'node')
  return {
    name: from.text('name'),
    state: from.oneOf('state', NODE_STATE) ?? 'reporting',
    agentVersion: from.optionalText('agentVersion') ?? '',
    // containerd 2 prefixes its version with a v; containerd 1 does not.
    containerdVersion: (from.optionalText('containerdVersion') ?? '').replace(/^v/, ''),
    snapshotter: from.optionalText('snapshotter') ?? '',
    lastSeen: from.time('lastSeen'),
  } as const
}

export type Registry = ReturnType<typeof parseRegistry>

function parseRegistry(value: unknown) {
  const from = new Reader<RegistryStatus>(value, 'registry')
  return {
    registry: from.text('registry'),
    activePulls: from.amount('activePulls'),
    bytesPerSec: from.amount('bytesPerSec'),
  } as const
}

/** Nodes that have waiting pods but no reporting agent. */
export type Unobserved = ReturnType<typeof parseUnobserved>

function parseUnobserved(value: unknown) {
  const from = new Reader<UnobservedNodes>(value, 'unobserved')
  return {
    count: from.amount('count'),
    names: from.list('names', String) ?? [],
    reason: from.optionalText('reason') ?? '',
  } as const
}

export type NodeList = ReturnType<typeof parseNodeList>

export function parseNodeList(value: unknown) {
  const from = new Reader<WireNodeList>(value, 'nodes')
  return {
    nodes: from.list('nodes', parseNode) ?? [],
    registries: from.list('registries', parseRegistry) ?? [],
    unobserved: from.list('unobserved', parseUnobserved) ?? [],
  } as const
}

export type Container = ReturnType<typeof parseContainer>

function parseContainer(value: unknown) {
  const from = new Reader<ContainerWait>(value, 'container')
  return {
    container: from.text('container'),
    image: from.optionalText('image') ?? '',
    kind: CONTAINER_KINDS.find(kind => kind === from.optionalText('kind')) ?? 'app',
    waitingReason: from.optionalText('waitingReason'),
    state: from.oneOf('state', WAIT_STATE) ?? 'waiting',
    pullId: from.optionalText('pullId'),
    percent: from.optionalAmount('percent'),
    etaSeconds: from.optionalAmount('etaSeconds'),
    error: from.optionalText('error'),
  } as const
}

export type StartPhase = ReturnType<typeof parsePhase>

function parsePhase(value: unknown) {
  const from = new Reader<WireStartPhase>(value, 'phase')
  return {
    phase: from.text('phase'),
    startedAt: from.time('startedAt'),
    /** The duration of the phase; undefined until the phase ends. */
    seconds: from.optionalAmount('seconds'),
  } as const
}

export type Pod = ReturnType<typeof parsePod>

function parsePod(value: unknown) {
  const from = new Reader<PodWait>(value, 'pod')
  return {
    namespace: from.text('namespace'),
    podName: from.text('podName'),
    uid: from.optionalText('uid') ?? `${from.text('namespace')}/${from.text('podName')}`,
    owner: from.optionalText('owner'),
    nodeName: from.optionalText('nodeName') ?? '',
    waitingSince: from.optionalTime('waitingSince'),
    containers: from.list('containers', parseContainer) ?? [],
    phases: from.list('phases', parsePhase) ?? [],
    /** The total duration of the start-up in seconds, and the time at which the start-up ended. Both are set once the
     * pod has started. */
    tookSeconds: undefined as number | undefined,
    startedAt: undefined as number | undefined,
  } as const
}

function parseStarted(value: unknown): Pod {
  const from = new Reader<PodStart>(value, 'pod')
  return {
    ...parsePod(value),
    tookSeconds: from.amount('seconds'),
    startedAt: from.optionalTime('startedAt'),
  }
}

export interface PodList {
  /** Pods that are waiting, and pods that started recently. */
  readonly pods: readonly Pod[]
  readonly watching: boolean
  /** Why the server cannot see pods, in the server's own words; set only if it does not watch pods. */
  readonly reason: string | undefined
}

export function parsePodList(value: unknown): PodList {
  const from = new Reader<WirePodList>(value, 'pods')
  return {
    pods: [...(from.list('pods', parsePod) ?? []), ...(from.list('started', parseStarted) ?? [])],
    watching: from.raw('watching') !== false,
    reason: from.optionalText('reason'),
  }
}

export interface RegistryHistory {
  readonly registry: string
  readonly bytesPerSec: readonly number[]
  /** The number of bytes downloaded since the time of the first value in `bytesPerSec`; undefined if the server is too
   * old to count them. */
  readonly downloadedBytes?: number | undefined
}

/** Throughput by registry over the last few minutes, as values at equal intervals, oldest first. */
export interface ThroughputHistory {
  readonly since: number
  readonly stepMs: number
  readonly registries: readonly RegistryHistory[]
  /** How many attempts have completed since `since`; undefined if the server is too old to count attempts. */
  readonly completed: number | undefined
  readonly failed: number
  readonly canceled: number
  readonly downloadedBytes: number
}

export function parseThroughput(value: unknown): ThroughputHistory {
  const from = new Reader<ThroughputList>(value, 'throughput')
  const registries = from.list('registries', one => {
    const line = new Reader<RegistryThroughput>(one, 'registry')
    return {
      registry: line.text('registry'),
      bytesPerSec: line.list('bytesPerSec', figure => (Number.isFinite(figure) ? Number(figure) : 0)) ?? [],
      downloadedBytes: line.optionalAmount('downloadedBytes'),
    }
  })
  return {
    since: from.time('since'),
    stepMs: Math.max(1, from.amount('step')) * 1000,
    registries: registries ?? [],
    completed: from.optionalAmount('completed'),
    failed: from.amount('failed'),
    canceled: from.amount('canceled'),
    downloadedBytes: from.amount('downloadedBytes'),
  }
}

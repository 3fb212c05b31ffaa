/**
 * All that enters from the server, checked where it enters. Every `parse…` takes what JSON.parse gave and returns
 * our types, or throws a `WireError` that names the field. Unknown fields are ignored and fields with a default may be
 * missing, so that this page reads older and newer servers. Times become milliseconds since 1970.
 */

export type PullPhase = 'queued' | 'resolving' | 'downloading' | 'extracting' | 'completed' | 'failed'

export type LayerPhase =
  | 'cached'
  | 'waiting'
  | 'downloading'
  | 'downloaded'
  | 'extracting'
  | 'extracted'
  | 'failed'

export type ErrorReason =
  | 'not_found'
  | 'unauthorized'
  | 'rate_limited'
  | 'timeout'
  | 'network'
  | 'tls'
  | 'disk_full'
  | 'invalid_reference'
  | 'canceled'
  | 'server_error'
  | 'unknown'

export interface Layer {
  readonly digest: string
  readonly mediaType: string
  readonly totalBytes: number
  readonly downloadedBytes: number
  readonly cachedBytes: number
  readonly bytesPerSec: number
  readonly percent: number
  readonly totalKnown: boolean
  readonly state: LayerPhase
  readonly fetchedBy: string | undefined
  readonly startedAt: number | undefined
  readonly completedAt: number | undefined
  readonly extractedAt: number | undefined
}

export interface PodRef {
  readonly namespace: string
  readonly podName: string
  readonly container: string
  readonly image: string
  readonly owner: string | undefined
  readonly waitingReason: string | undefined
}

export interface Pull {
  readonly id: string
  readonly nodeName: string
  readonly imageRef: string
  readonly registry: string | undefined
  readonly manifestDigest: string | undefined
  readonly refGuessed: boolean
  readonly status: PullPhase
  readonly totalBytes: number
  readonly downloadedBytes: number
  readonly extractedBytes: number
  readonly imageBytes: number
  readonly cachedBytes: number
  readonly totalKnown: boolean
  readonly bytesPerSec: number
  readonly percent: number
  readonly etaSeconds: number | undefined
  readonly layerCount: number
  readonly layersDone: number
  readonly layersCached: number
  readonly layersExtracted: number
  readonly attempt: number
  readonly startedAt: number
  readonly completedAt: number | undefined
  readonly stalledSince: number | undefined
  readonly error: string | undefined
  readonly errorReason: ErrorReason | undefined
  readonly nextRetryAt: number | undefined
  readonly snapshotter: string | undefined
  readonly pods: readonly PodRef[]
  /** Absent while nobody asked for this pull's layers, which is not the same as a pull without layers. */
  readonly layers: readonly Layer[] | undefined
}

export type PullEvent =
  | { readonly kind: 'changed'; readonly timestamp: number; readonly pull: Pull }
  | { readonly kind: 'removed'; readonly timestamp: number; readonly id: string }

export interface Hello {
  readonly version: string
  readonly bootId: string
  readonly time: number
}

export type NodeState = 'reporting' | 'late' | 'lost'

export interface ClusterNode {
  readonly name: string
  readonly state: NodeState
  readonly agentVersion: string
  readonly containerdVersion: string
  readonly snapshotter: string
  readonly lastSeen: number
  readonly activePulls: number
  readonly bytesPerSec: number
}

export interface Registry {
  readonly registry: string
  readonly activePulls: number
  readonly bytesPerSec: number
}

export interface NodeList {
  readonly nodes: readonly ClusterNode[]
  readonly registries: readonly Registry[]
}

/** A volume is one that is made from an image. */
export type ContainerKind = 'init' | 'app' | 'ephemeral' | 'volume'
export type ContainerState = PullPhase | 'waiting'

export interface Container {
  readonly container: string
  readonly image: string
  readonly kind: ContainerKind
  readonly waitingReason: string | undefined
  readonly state: ContainerState
  readonly pullId: string | undefined
  readonly percent: number | undefined
  readonly etaSeconds: number | undefined
  readonly error: string | undefined
  readonly errorReason: ErrorReason | undefined
}

export interface WaitingPod {
  readonly namespace: string
  readonly podName: string
  readonly uid: string
  readonly owner: string | undefined
  readonly nodeName: string
  readonly waitingSince: number | undefined
  readonly etaSeconds: number | undefined
  readonly containers: readonly Container[]
}

export interface PodList {
  readonly pods: readonly WaitingPod[]
  readonly watching: boolean
  /** Why the server cannot see pods, in its words; only when it does not watch. */
  readonly reason: string | undefined
}

export class WireError extends Error {
  override readonly name = 'WireError'
}

type Fields = Readonly<Record<string, unknown>>

const PHASES: readonly PullPhase[] = [
  'queued',
  'resolving',
  'downloading',
  'extracting',
  'completed',
  'failed',
]
const CONTAINER_STATES: readonly ContainerState[] = [...PHASES, 'waiting']
const CONTAINER_KINDS: readonly ContainerKind[] = ['init', 'app', 'ephemeral', 'volume']
const NODE_STATES: readonly NodeState[] = ['reporting', 'late', 'lost']
const LAYER_PHASES: readonly LayerPhase[] = [
  'cached',
  'waiting',
  'downloading',
  'downloaded',
  'extracting',
  'extracted',
  'failed',
]
const REASONS: readonly ErrorReason[] = [
  'not_found',
  'unauthorized',
  'rate_limited',
  'timeout',
  'network',
  'tls',
  'disk_full',
  'invalid_reference',
  'canceled',
  'server_error',
  'unknown',
]

function fields(value: unknown, path: string): Fields {
  if (!isFields(value)) throw new WireError(`${path}: expected an object`)
  return value
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function list(value: unknown, path: string): readonly unknown[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value)) throw new WireError(`${path}: expected an array`)
  return value
}

function text(from: Fields, key: string): string {
  const value = from[key]
  if (typeof value !== 'string') throw new WireError(`${key}: expected text`)
  return value
}

function optionalText(from: Fields, key: string): string | undefined {
  const value = from[key]
  return typeof value === 'string' && value !== '' ? value : undefined
}

/** A number that is left out while it is 0. */
function amount(from: Fields, key: string): number {
  return optionalAmount(from, key) ?? 0
}

function optionalAmount(from: Fields, key: string): number | undefined {
  const value = from[key]
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined
}

function flag(from: Fields, key: string): boolean {
  return from[key] === true
}

function time(from: Fields, key: string): number {
  const found = optionalTime(from, key)
  if (found === undefined) throw new WireError(`${key}: expected an RFC 3339 time`)
  return found
}

function optionalTime(from: Fields, key: string): number | undefined {
  const value = from[key]
  if (typeof value !== 'string') return undefined
  const at = Date.parse(value)
  return Number.isNaN(at) ? undefined : at
}

function oneOf<T extends string>(from: Fields, key: string, known: readonly T[]): T | undefined {
  const value = from[key]
  return known.find(word => word === value)
}

function reasonOf(from: Fields): ErrorReason | undefined {
  if (optionalText(from, 'errorReason') === undefined) return undefined
  return oneOf(from, 'errorReason', REASONS) ?? 'unknown'
}

function parseLayer(value: unknown): Layer {
  const from = fields(value, 'layer')
  const completedAt = optionalTime(from, 'completedAt')
  const downloadedBytes = amount(from, 'downloadedBytes')
  return {
    digest: text(from, 'digest'),
    mediaType: optionalText(from, 'mediaType') ?? '',
    totalBytes: amount(from, 'totalBytes'),
    downloadedBytes,
    cachedBytes: amount(from, 'cachedBytes'),
    bytesPerSec: amount(from, 'bytesPerSec'),
    percent: amount(from, 'percent'),
    totalKnown: flag(from, 'totalKnown'),
    // Reports of the original's agent carry no layer state.
    state:
      oneOf(from, 'state', LAYER_PHASES) ??
      (completedAt !== undefined ? 'downloaded' : downloadedBytes > 0 ? 'downloading' : 'waiting'),
    fetchedBy: optionalText(from, 'fetchedBy'),
    startedAt: optionalTime(from, 'startedAt'),
    completedAt,
    extractedAt: optionalTime(from, 'extractedAt'),
  }
}

function parsePodRef(value: unknown): PodRef {
  const from = fields(value, 'pod')
  return {
    namespace: text(from, 'namespace'),
    podName: text(from, 'podName'),
    container: optionalText(from, 'container') ?? '',
    image: optionalText(from, 'image') ?? '',
    owner: optionalText(from, 'owner'),
    waitingReason: optionalText(from, 'waitingReason'),
  }
}

function statusOf(from: Fields): PullPhase {
  const known = oneOf(from, 'status', PHASES)
  if (known !== undefined) return known
  if (optionalText(from, 'error') !== undefined) return 'failed'
  return optionalTime(from, 'completedAt') !== undefined ? 'completed' : 'downloading'
}

const NO_PODS: readonly PodRef[] = []

export function parsePull(value: unknown): Pull {
  const from = fields(value, 'pull')
  const pods = list(from.pods, 'pods')
  return {
    id: text(from, 'id'),
    nodeName: text(from, 'nodeName'),
    imageRef: text(from, 'imageRef'),
    registry: optionalText(from, 'registry'),
    manifestDigest: optionalText(from, 'manifestDigest'),
    refGuessed: flag(from, 'refGuessed'),
    status: statusOf(from),
    totalBytes: amount(from, 'totalBytes'),
    downloadedBytes: amount(from, 'downloadedBytes'),
    extractedBytes: amount(from, 'extractedBytes'),
    imageBytes: amount(from, 'imageBytes'),
    cachedBytes: amount(from, 'cachedBytes'),
    totalKnown: flag(from, 'totalKnown'),
    bytesPerSec: amount(from, 'bytesPerSec'),
    percent: amount(from, 'percent'),
    etaSeconds: optionalAmount(from, 'etaSeconds'),
    layerCount: amount(from, 'layerCount'),
    layersDone: amount(from, 'layersDone'),
    layersCached: amount(from, 'layersCached'),
    layersExtracted: amount(from, 'layersExtracted'),
    attempt: optionalAmount(from, 'attempt') ?? 1,
    startedAt: time(from, 'startedAt'),
    completedAt: optionalTime(from, 'completedAt'),
    stalledSince: optionalTime(from, 'stalledSince'),
    error: optionalText(from, 'error'),
    errorReason: reasonOf(from),
    nextRetryAt: optionalTime(from, 'nextRetryAt'),
    snapshotter: optionalText(from, 'snapshotter'),
    pods: pods.length === 0 ? NO_PODS : pods.map(parsePodRef),
    layers:
      from.layers === undefined || from.layers === null
        ? undefined
        : list(from.layers, 'layers').map(parseLayer),
  }
}

/** The list of all pulls, each as the stream would tell it. */
export function parsePullList(value: unknown): readonly Pull[] {
  return list(fields(value, 'list').pulls, 'pulls').map(parsePull)
}

export function parsePullEvent(value: unknown): PullEvent {
  const from = fields(value, 'event')
  const timestamp = time(from, 'timestamp')
  if (from.type === 'pull.removed')
    return { kind: 'removed', timestamp, id: text(fields(from.pull, 'pull'), 'id') }
  return { kind: 'changed', timestamp, pull: parsePull(from.pull) }
}

export function parseHello(value: unknown): Hello {
  const from = fields(value, 'hello')
  return { version: text(from, 'version'), bootId: text(from, 'bootId'), time: time(from, 'time') }
}

export function parseNodeList(value: unknown): NodeList {
  const from = fields(value, 'nodes')
  return {
    nodes: list(from.nodes, 'nodes').map(parseNode),
    registries: list(from.registries, 'registries').map(parseRegistry),
  }
}

function parseNode(value: unknown): ClusterNode {
  const from = fields(value, 'node')
  return {
    name: text(from, 'name'),
    state: oneOf(from, 'state', NODE_STATES) ?? 'reporting',
    agentVersion: optionalText(from, 'agentVersion') ?? '',
    // containerd 2 puts a v before its version, containerd 1 does not.
    containerdVersion: (optionalText(from, 'containerdVersion') ?? '').replace(/^v/, ''),
    snapshotter: optionalText(from, 'snapshotter') ?? '',
    lastSeen: time(from, 'lastSeen'),
    activePulls: amount(from, 'activePulls'),
    bytesPerSec: amount(from, 'bytesPerSec'),
  }
}

function parseRegistry(value: unknown): Registry {
  const from = fields(value, 'registry')
  return {
    registry: text(from, 'registry'),
    activePulls: amount(from, 'activePulls'),
    bytesPerSec: amount(from, 'bytesPerSec'),
  }
}

export function parsePodList(value: unknown): PodList {
  const from = fields(value, 'pods')
  return {
    pods: list(from.pods, 'pods').map(parseWaitingPod),
    watching: from.watching !== false,
    reason: optionalText(from, 'reason'),
  }
}

function parseWaitingPod(value: unknown): WaitingPod {
  const from = fields(value, 'pod')
  return {
    namespace: text(from, 'namespace'),
    podName: text(from, 'podName'),
    uid: optionalText(from, 'uid') ?? `${text(from, 'namespace')}/${text(from, 'podName')}`,
    owner: optionalText(from, 'owner'),
    nodeName: optionalText(from, 'nodeName') ?? '',
    waitingSince: optionalTime(from, 'waitingSince'),
    etaSeconds: optionalAmount(from, 'etaSeconds'),
    containers: list(from.containers, 'containers').map(parseContainer),
  }
}

function parseContainer(value: unknown): Container {
  const from = fields(value, 'container')
  return {
    container: text(from, 'container'),
    image: optionalText(from, 'image') ?? '',
    kind: oneOf(from, 'kind', CONTAINER_KINDS) ?? 'app',
    waitingReason: optionalText(from, 'waitingReason'),
    state: oneOf(from, 'state', CONTAINER_STATES) ?? 'waiting',
    pullId: optionalText(from, 'pullId'),
    percent: optionalAmount(from, 'percent'),
    etaSeconds: optionalAmount(from, 'etaSeconds'),
    error: optionalText(from, 'error'),
    errorReason: reasonOf(from),
  }
}

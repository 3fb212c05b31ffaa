/**
 * Generated from pulltrace/server/models.py and responses.py by web/scripts/wire_types.py. Do not edit; run
 * `make schema`.
 */

/** An RFC 3339 time in UTC. */
export type Time = string & { readonly format: 'date-time' }

export interface PullEvent {
  readonly timestamp: Time
  readonly type: EventType
  readonly nodeName: string
  readonly pull: PullStatus
  readonly schemaVersion: string
}

export const EVENT_TYPE = [
  'pull.completed',
  'pull.failed',
  'pull.progress',
  'pull.removed',
  'pull.started',
] as const
export type EventType = (typeof EVENT_TYPE)[number]

export interface PullStatus {
  readonly id: string
  readonly nodeName: string
  readonly imageRef: string
  readonly totalBytes: number
  readonly downloadedBytes: number
  readonly bytesPerSec: number
  readonly percent: number
  readonly layerCount: number
  readonly layersDone: number
  readonly startedAt: Time
  readonly totalKnown: boolean
  readonly status: PullPhase
  readonly imageBytes: number
  readonly cachedBytes: number
  readonly extractedBytes: number
  readonly layersCached: number
  readonly layersExtracted: number
  readonly attempt: number
  readonly etaSeconds?: number
  readonly completedAt?: Time
  readonly error?: string
  readonly errorReason?: ErrorReason
  readonly nextRetryAt?: Time
  readonly pods?: readonly PodCorrelation[]
  readonly layers?: readonly LayerStatus[]
  readonly stalledSince?: Time
  readonly refGuessed?: boolean
  readonly registry?: string
  readonly repository?: string
  readonly manifestDigest?: string
  readonly mediaType?: string
  readonly snapshotter?: string
  readonly imported?: boolean
  readonly bound?: Bound
  readonly usualSeconds?: number
  readonly slowerThanUsual?: number
  readonly via?: readonly string[]
  readonly waited?: readonly PodCorrelation[]
  readonly etaMissing?: string
  readonly remoteBytes?: number
  readonly percentBasis?: PercentBasis
  readonly failingSince?: Time
  readonly earlierAttempts?: readonly EarlierAttempt[]
  readonly usualBasis?: UsualBasis
  readonly usualCount?: number
  readonly usualComparable?: boolean
  readonly queuedAt?: Time
  readonly downloadedAt?: Time
}

export const PULL_PHASE = [
  'completed',
  'downloading',
  'extracting',
  'failed',
  'queued',
  'resolving',
  'unobserved',
] as const
export type PullPhase = (typeof PULL_PHASE)[number]

export const ERROR_REASON = [
  'canceled',
  'disk_full',
  'invalid_reference',
  'network',
  'not_found',
  'rate_limited',
  'server_error',
  'timeout',
  'tls',
  'unauthorized',
  'unknown',
] as const
export type ErrorReason = (typeof ERROR_REASON)[number]

export interface PodCorrelation {
  readonly namespace: string
  readonly podName: string
  readonly container: string
  readonly image: string
  readonly uid?: string
  readonly owner?: string
  readonly waitingReason?: string
}

export interface LayerStatus {
  readonly pullId: string
  readonly digest: string
  readonly mediaType: string
  readonly totalBytes: number
  readonly downloadedBytes: number
  readonly bytesPerSec: number
  readonly percent: number
  readonly totalKnown: boolean
  readonly state?: LayerPhase
  readonly cachedBytes?: number
  readonly fetchedBy?: string
  readonly startedAt?: Time
  readonly completedAt?: Time
  readonly extractStartedAt?: Time
  readonly extractedAt?: Time
}

export const LAYER_PHASE = [
  'cached',
  'downloaded',
  'downloading',
  'extracted',
  'extracting',
  'failed',
  'remote',
  'waiting',
] as const
export type LayerPhase = (typeof LAYER_PHASE)[number]

export interface Bound {
  readonly by: Factor
  readonly why: string
  readonly figures?: Readonly<Record<string, number>>
}

export const FACTOR = [
  'cpu',
  'disk',
  'layer',
  'mirror',
  'network',
  'queue',
  'rate_limit',
  'registry',
  'slots',
  'snapshotter',
  'unknown',
] as const
export type Factor = (typeof FACTOR)[number]

export const PERCENT_BASIS = ['bytes', 'layers'] as const
export type PercentBasis = (typeof PERCENT_BASIS)[number]

export interface EarlierAttempt {
  readonly attempt: number
  readonly completedAt: Time
  readonly errorReason: ErrorReason
  readonly startedAt?: Time
  readonly error?: string
  readonly percent?: number
  readonly queuedAt?: Time
}

export const USUAL_BASIS = ['image', 'node', 'other_nodes', 'registry', 'repository', 'size'] as const
export type UsualBasis = (typeof USUAL_BASIS)[number]

export interface PullRemovedEvent {
  readonly timestamp: Time
  readonly type: EventType
  readonly nodeName: string
  readonly pull: RemovedPull
  readonly schemaVersion: string
}

export interface RemovedPull {
  readonly id: string
}

export interface PullList {
  readonly pulls: readonly PullStatus[]
}

export interface PodList {
  readonly pods: readonly PodWait[]
  readonly watching: boolean
  readonly reason?: string
  readonly started?: readonly PodStart[]
}

export interface PodWait {
  readonly namespace: string
  readonly podName: string
  readonly nodeName: string
  readonly waitingSince: Time
  readonly containers: readonly ContainerWait[]
  readonly uid?: string
  readonly owner?: string
  readonly etaSeconds?: number
  readonly readyEstimate?: Time
  readonly phases?: readonly StartPhase[]
}

export interface ContainerWait {
  readonly container: string
  readonly image: string
  readonly kind: string
  readonly state: WaitState
  readonly waitingReason?: string
  readonly pullId?: string
  readonly percent?: number
  readonly etaSeconds?: number
  readonly error?: string
  readonly errorReason?: ErrorReason
  readonly nextRetryAt?: Time
  readonly attempt?: number
  readonly failingSince?: Time
}

export const WAIT_STATE = [
  'completed',
  'downloading',
  'extracting',
  'failed',
  'queued',
  'resolving',
  'unobserved',
  'waiting',
] as const
export type WaitState = (typeof WAIT_STATE)[number]

export interface StartPhase {
  readonly phase: StartPhaseName
  readonly startedAt: Time
  readonly seconds?: number
}

export const START_PHASE_NAME = ['created', 'pulling', 'queued', 'scheduled', 'started', 'unpacking'] as const
export type StartPhaseName = (typeof START_PHASE_NAME)[number]

export interface PodStart {
  readonly namespace: string
  readonly podName: string
  readonly nodeName: string
  readonly scheduledAt: Time
  readonly startedAt: Time
  readonly seconds: number
  readonly phases: readonly StartPhase[]
  readonly uid?: string
  readonly owner?: string
}

export interface NodeList {
  readonly nodes: readonly NodeStatus[]
  readonly registries: readonly RegistryStatus[]
  readonly unobserved?: readonly UnobservedNodes[]
}

export interface NodeStatus {
  readonly name: string
  readonly state: NodeState
  readonly lastSeen: Time
  readonly activePulls: number
  readonly bytesPerSec: number
  readonly agentVersion?: string
  readonly containerdVersion?: string
  readonly snapshotter?: string
  readonly load?: NodeLoad
  readonly problem?: string
}

export const NODE_STATE = ['conflict', 'late', 'lost', 'reporting'] as const
export type NodeState = (typeof NODE_STATE)[number]

export interface NodeLoad {
  readonly seconds: number
  readonly ioPressure?: number
  readonly cpuPressure?: number
  readonly memoryPressure?: number
  readonly disk?: string
  readonly diskBusy?: number
  readonly diskReadPerSec?: number
  readonly diskWrittenPerSec?: number
}

export interface RegistryStatus {
  readonly registry: string
  readonly activePulls: number
  readonly bytesPerSec: number
  readonly pullsLastHour?: number
  readonly owners?: readonly OwnerPulls[]
}

export interface OwnerPulls {
  readonly owner: string
  readonly pulls: number
}

export interface UnobservedNodes {
  readonly count: number
  readonly names: readonly string[]
  readonly reason: string
}

export interface Hello {
  readonly version: string
  readonly bootId: string
  readonly time: Time
  readonly revision: number
  readonly pulls?: number
}

export interface Reset {
  readonly pulls?: number
}

export interface ThroughputList {
  readonly since: Time
  readonly step: number
  readonly registries: readonly RegistryThroughput[]
  readonly completed: number
  readonly failed: number
  readonly canceled: number
  readonly downloadedBytes: number
}

export interface RegistryThroughput {
  readonly registry: string
  readonly bytesPerSec: readonly number[]
  readonly downloadedBytes: number
}

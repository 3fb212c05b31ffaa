/** Shows each layer of a pull as a lane on a shared time axis. */
import type { Layer, LayerPhase, Pull } from '../wire/wire'
import { pullState, remainingSeconds } from './pullState'

export type Phase =
  | 'waiting'
  | 'downloading'
  | 'borrowed'
  | 'downloaded'
  | 'extracting'
  | 'cached'
  | 'remote'
  | 'failed'

export interface Segment {
  readonly phase: Phase
  /** Positions on the axis, from 0 to 1. */
  readonly from: number
  readonly to: number
}

export interface Lane {
  readonly layer: Layer
  readonly segments: readonly Segment[]
}

export interface Waterfall {
  readonly lanes: readonly Lane[]
  readonly ticks: readonly { readonly at: number; readonly seconds: number }[]
  /** The position of the current time on the axis; undefined if the pull has ended. */
  readonly now: number | undefined
  /** Seconds from the pull's start until it is expected to be ready; undefined if there is no estimate. */
  readonly readySeconds: number | undefined
  readonly lengthSeconds: number
}

const SHORTEST_MS = 5000
const STEPS_SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 86_400]
const MOST_TICKS = 6

export function waterfall(pull: Pull, now: number): Waterfall {
  const layers = pull.layers ?? []
  const start = pull.startedAt
  const ended = pull.completedAt
  const present = Math.max(start, ended ?? now)
  const left = remainingSeconds(pull, now)
  const ready = left === undefined ? undefined : now + left * 1000
  const length = Math.max(SHORTEST_MS, (ready ?? present) - start)
  const share = (at: number) => Math.min(1, Math.max(0, (at - start) / length))
  let unpackedUntil = start
  const lanes = layers.map(layer => {
    const times = phases(layer, { start, present, unpackedUntil, pull })
    if (layer.extractedAt !== undefined) unpackedUntil = Math.max(unpackedUntil, layer.extractedAt)
    const segments = times
      .map(({ phase, from, to }) => ({ phase, from: share(from), to: WHOLE.includes(phase) ? 1 : share(to) }))
      .filter(({ from, to }) => to > from)
    return { layer, segments }
  })
  return {
    lanes,
    ticks: ticks(length / 1000, ready !== undefined).map(seconds => ({
      at: (seconds * 1000) / length,
      seconds,
    })),
    now: ended === undefined ? share(now) : undefined,
    readySeconds: ready === undefined ? undefined : (ready - start) / 1000,
    lengthSeconds: length / 1000,
  }
}

interface Span {
  readonly phase: Phase
  readonly from: number
  readonly to: number
}

interface Axis {
  readonly start: number
  readonly present: number
  readonly unpackedUntil: number
  readonly pull: Pull
}

/** What else is downloading a layer; undefined if the layer is downloaded by this pull or one of its earlier
 * attempts. */
export function fetcherOf({ fetchedBy }: Layer, { id }: Pull): 'snapshotter' | 'other pull' | undefined {
  if (fetchedBy === undefined || fetchedBy === id) return undefined
  return fetchedBy === 'snapshotter' ? fetchedBy : 'other pull'
}

/** Cancelling a pull stops the downloads of its layers, but this does not mean that the layers have failed. */
function hasFailed({ state }: Layer, { pull }: Axis): boolean {
  return state === 'failed' && pullState(pull) !== 'cancelled'
}

/** A layer in one of these phases does not change, so its lane has a single segment. */
const WHOLE: readonly Phase[] = ['cached', 'remote']

function phases(layer: Layer, axis: Axis): readonly Span[] {
  const { start, present } = axis
  if (layer.state === 'cached' || layer.state === 'remote')
    return [{ phase: layer.state, from: start, to: present }]
  // If a small layer is downloaded and unpacked between two of the agent's polls, the start of its download is
  // unknown.
  const began = layer.startedAt ?? layer.completedAt ?? layer.extractStartedAt ?? layer.extractedAt
  if (began === undefined) {
    const isHere = layer.state === 'downloaded' || layer.state === 'extracted'
    // In a failed pull, a layer whose download never started is shown as waiting.
    return [{ phase: isHere ? 'downloaded' : 'waiting', from: start, to: present }]
  }
  // If the layer's bytes were not observed, the download is assumed to have ended when the unpacking started or, if
  // that time is unknown too, when the unpacking ended.
  const fetched = layer.completedAt ?? layer.extractStartedAt ?? layer.extractedAt
  const isFailed = hasFailed(layer, axis) && layer.extractStartedAt === undefined
  const fetching = fetcherOf(layer, axis.pull) === 'other pull' ? 'borrowed' : 'downloading'
  const spans: Span[] = [
    { phase: 'waiting', from: start, to: Math.min(began, fetched ?? began) },
    { phase: isFailed ? 'failed' : fetching, from: began, to: fetched ?? present },
  ]
  return fetched === undefined ? spans : [...spans, ...unpacking(layer, fetched, axis)]
}

function unpacking(layer: Layer, fetched: number, axis: Axis): readonly Span[] {
  const { present, unpackedUntil } = axis
  const isUnpacked = layer.state === 'extracting' || layer.extractedAt !== undefined
  if (!isUnpacked && layer.extractStartedAt === undefined)
    return [{ phase: 'downloaded', from: fetched, to: present }]
  const end = layer.extractedAt ?? present
  // Older agents do not report when unpacking starts. For these agents, layers are assumed to be unpacked one after
  // another in manifest order. A layer's unpacking starts once the layer has been downloaded and the previous layer has
  // been unpacked.
  const turn = Math.min(layer.extractStartedAt ?? Math.max(fetched, unpackedUntil), end)
  return [
    { phase: 'downloaded', from: fetched, to: turn },
    { phase: hasFailed(layer, axis) ? 'failed' : 'extracting', from: turn, to: end },
  ]
}

/** Axis ticks at round numbers of seconds. If the word "ready" is shown, the last part of the axis has no ticks. */
function ticks(seconds: number, isReadyShown: boolean): readonly number[] {
  const step = STEPS_SECONDS.find(candidate => seconds / candidate <= MOST_TICKS) ?? seconds
  const until = seconds * (isReadyShown ? 0.7 : 0.96)
  const found: number[] = []
  for (let at = 0; at <= until; at += step) found.push(at)
  return found
}

/** A layer's download speed; undefined if nothing was downloaded, or if the download was too short to measure. */
export function layerRate(layer: Layer): number | undefined {
  if (layer.startedAt === undefined || layer.completedAt === undefined || layer.downloadedBytes === 0)
    return undefined
  const seconds = (layer.completedAt - layer.startedAt) / 1000
  return seconds >= 0.2 ? layer.downloadedBytes / seconds : undefined
}

const DONE: readonly LayerPhase[] = ['extracted', 'cached', 'remote']

/** The layer that must be unpacked before this one; undefined if there is none, or if layers are unpacked in
 * parallel. */
export function blockingLayer(layers: readonly Layer[], layer: Layer): Layer | undefined {
  if (isParallel(layers)) return undefined
  return layers.slice(0, Math.max(0, layers.indexOf(layer))).find(earlier => !DONE.includes(earlier.state))
}

/** Whether any two layers were unpacked at the same time. */
function isParallel(layers: readonly Layer[]): boolean {
  let until = 0
  for (const { extractStartedAt, extractedAt, state } of layers) {
    if (extractStartedAt === undefined) continue
    if (extractStartedAt < until) return true
    until = extractedAt ?? (state === 'extracting' ? Infinity : until)
  }
  return false
}

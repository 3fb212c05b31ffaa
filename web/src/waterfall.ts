/** PURE. One pull's layers as lanes over a shared time axis. */
import type { Layer, LayerPhase, Pull } from './wire'

export type Phase = 'waiting' | 'downloading' | 'downloaded' | 'extracting' | 'cached' | 'failed'

export interface Segment {
  readonly phase: Phase
  /** Shares of the axis, 0 to 1. */
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
  /** Where now is on the axis; absent when the pull has ended. */
  readonly now: number | undefined
  /** Seconds from the pull's start to when it is expected to be ready; absent without ground for it. */
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
  const ready =
    ended === undefined && pull.etaSeconds !== undefined ? now + pull.etaSeconds * 1000 : undefined
  const length = Math.max(SHORTEST_MS, (ready ?? present) - start)
  const share = (at: number) => Math.min(1, Math.max(0, (at - start) / length))
  let unpackedUntil = start
  const lanes = layers.map(layer => {
    const times = phases(layer, { start, present, unpackedUntil })
    if (layer.extractedAt !== undefined) unpackedUntil = Math.max(unpackedUntil, layer.extractedAt)
    const segments = times
      .map(({ phase, from, to }) => ({ phase, from: share(from), to: phase === 'cached' ? 1 : share(to) }))
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

interface Frame {
  readonly start: number
  readonly present: number
  readonly unpackedUntil: number
}

function phases(layer: Layer, { start, present, unpackedUntil }: Frame): readonly Span[] {
  if (layer.state === 'cached') return [{ phase: 'cached', from: start, to: present }]
  // A small layer can come and be unpacked between two looks of the agent: then nobody saw it begin.
  const began = layer.startedAt ?? layer.completedAt ?? layer.extractedAt
  if (began === undefined && (layer.state === 'downloaded' || layer.state === 'extracted')) {
    return [{ phase: 'downloaded', from: start, to: present }]
  }
  if (began === undefined)
    return [{ phase: layer.state === 'failed' ? 'failed' : 'waiting', from: start, to: present }]
  const fetched = layer.completedAt ?? present
  const spans: Span[] = [
    { phase: 'waiting', from: start, to: began },
    { phase: layer.state === 'failed' ? 'failed' : 'downloading', from: began, to: fetched },
  ]
  if (layer.completedAt === undefined) return spans
  if (layer.state !== 'extracting' && layer.extractedAt === undefined) {
    return [...spans, { phase: 'downloaded', from: fetched, to: present }]
  }
  // containerd unpacks the layers of an image one after another in manifest order, and the wire has no time for the
  // start: a layer's turn comes when it is here and the one before it is done.
  const turn = Math.min(Math.max(fetched, unpackedUntil), layer.extractedAt ?? present)
  return [
    ...spans,
    { phase: 'downloaded', from: fetched, to: turn },
    { phase: 'extracting', from: turn, to: layer.extractedAt ?? present },
  ]
}

/** Round seconds along the axis; the last part is left to the word "ready" when that stands there. */
function ticks(seconds: number, readyAtEnd: boolean): readonly number[] {
  const step = STEPS_SECONDS.find(candidate => seconds / candidate <= MOST_TICKS) ?? seconds
  const until = seconds * (readyAtEnd ? 0.84 : 0.96)
  const found: number[] = []
  for (let at = 0; at <= until; at += step) found.push(at)
  return found
}

/** The bytes of a layer per second while it was fetched; nothing when it was not fetched or too short to say. */
export function layerRate(layer: Layer): number | undefined {
  if (layer.startedAt === undefined || layer.completedAt === undefined || layer.downloadedBytes === 0)
    return undefined
  const seconds = (layer.completedAt - layer.startedAt) / 1000
  return seconds >= 0.2 ? layer.downloadedBytes / seconds : undefined
}

const DONE: readonly LayerPhase[] = ['extracted', 'cached']

/** The layer that has to be unpacked before this one can be, when that is not done yet. */
export function blockingLayer(layers: readonly Layer[], layer: Layer): Layer | undefined {
  return layers.slice(0, Math.max(0, layers.indexOf(layer))).find(earlier => !DONE.includes(earlier.state))
}

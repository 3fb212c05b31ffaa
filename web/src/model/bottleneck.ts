/** Describes in one line what is holding up a pull. Returns undefined if the measurements do not identify a cause. */

import type { Layer, Pull } from '../wire/wire'
import { bytes, clock, count, duration, shortDigest } from './format'
import { hasEnded, tookSeconds } from './pullState'
import { fetcherOf } from './waterfall'

/** A layer counts as the bottleneck only if it accounts for at least this share of the remaining bytes. */
const LARGE_SHARE = 0.5
/** No bottleneck is shown for a pull that took less time than this. */
const WORTH_SECONDS = 5

export function bottleneck(pull: Pull, now: number): string | undefined {
  const layers = pull.layers ?? []
  if (layers.length === 0 || pull.status === 'failed') return undefined
  if (hasEnded(pull)) return lookingBack(pull, layers)
  if (pull.stalledSince !== undefined)
    return `No bytes have arrived for ${duration((now - pull.stalledSince) / 1000)}`
  const left = layers.filter(layer => isLeft(layer))
  if (left.length === 0) return unpacking(layers)
  const fetchers = left.map(layer => fetcherOf(layer, pull))
  // For layers that the snapshotter fetches, the number of remaining bytes is unknown.
  if (fetchers.includes('snapshotter')) return undefined
  const borrowed = left.filter((_, at) => fetchers[at] === 'other pull')
  if (borrowed.length === left.length) {
    return borrowed.length === 1 && borrowed[0] !== undefined
      ? `Waiting for layer ${named(borrowed[0])}, which another pull is downloading`
      : `Waiting for ${borrowed.length} layers that other pulls are downloading`
  }
  return largestLayer(left) ?? slots(left)
}

function named(layer: Layer): string {
  return `${shortDigest(layer.digest)} (${bytes(layer.totalBytes)})`
}

function isLeft(layer: Layer): boolean {
  return layer.state === 'waiting' || layer.state === 'downloading'
}

function remaining(layer: Layer): number {
  return Math.max(0, layer.totalBytes - layer.cachedBytes - layer.downloadedBytes)
}

function largestLayer(left: readonly Layer[]): string | undefined {
  if (left.some(layer => !layer.totalKnown)) return undefined
  const sum = left.reduce((bytesLeft, layer) => bytesLeft + remaining(layer), 0)
  const largest = left.reduce((a, b) => (remaining(b) > remaining(a) ? b : a))
  const share = sum > 0 ? remaining(largest) / sum : 0
  if (share < LARGE_SHARE) return undefined
  const name = `Bottleneck: layer ${named(largest)}`
  return left.length === 1
    ? `${name}, the last one`
    : `${name}, ${Math.floor(share * 100)} % of the remaining bytes`
}

function slots(left: readonly Layer[]): string | undefined {
  const waiting = left.filter(({ state, fetchedBy }) => state === 'waiting' && fetchedBy === undefined).length
  const busy = left.length - waiting
  if (waiting === 0 || busy === 0) return undefined
  return `${count(waiting, 'layer is waiting', 'layers are waiting')} while ${busy} ${busy === 1 ? 'is' : 'are'} downloading: the node's download slots are busy`
}

function unpacking(layers: readonly Layer[]): string | undefined {
  const current =
    layers.find(({ state }) => state === 'extracting') ?? layers.find(({ state }) => state === 'downloaded')
  if (current === undefined) return undefined
  return `All bytes have arrived; the node is unpacking layer ${named(current)}`
}

function lookingBack(pull: Pull, layers: readonly Layer[]): string | undefined {
  const took = tookSeconds(pull) ?? 0
  const downloads = layers.flatMap(({ completedAt }) => (completedAt === undefined ? [] : [completedAt]))
  if (took < WORTH_SECONDS || downloads.length === 0) return undefined
  const unpackingAlone = took - (Math.max(...downloads) - pull.startedAt) / 1000
  if (unpackingAlone / took >= LARGE_SHARE) {
    return `Unpacking took ${clock(unpackingAlone)} of ${clock(took)} after the last byte`
  }
  const slowest = layers.reduce((a, b) => (downloadSeconds(b) > downloadSeconds(a) ? b : a))
  const share = downloadSeconds(slowest) / took
  return share >= LARGE_SHARE && layers.length > 1
    ? `Layer ${named(slowest)} took ${clock(downloadSeconds(slowest))} of ${clock(took)}`
    : undefined
}

function downloadSeconds({ startedAt, completedAt }: Layer): number {
  return startedAt === undefined || completedAt === undefined ? 0 : (completedAt - startedAt) / 1000
}

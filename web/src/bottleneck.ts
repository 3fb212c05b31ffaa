/** PURE. What holds a pull up, in one line, and only when its figures bear it out. */
import { bytes, clock, count, duration, shortDigest } from './format'
import { hasEnded, tookSeconds } from './pullState'
import type { Layer, Pull } from './wire'

/** Below this share of what is left no layer is called the bottleneck. */
const LARGE_SHARE = 0.5
/** A pull over sooner than this had none. */
const WORTH_SECONDS = 5

export function bottleneck(pull: Pull, now: number): string | undefined {
  const layers = pull.layers ?? []
  if (layers.length === 0 || pull.status === 'failed') return undefined
  if (hasEnded(pull)) return lookingBack(pull, layers)
  if (pull.stalledSince !== undefined)
    return `No byte has come for ${duration((now - pull.stalledSince) / 1000)}`
  const left = layers.filter(layer => isLeft(layer))
  if (left.length === 0) return unpacking(layers)
  const borrowed = left.filter(layer => layer.fetchedBy !== undefined)
  if (borrowed.length === left.length) {
    return borrowed.length === 1 && borrowed[0] !== undefined
      ? `Waits for layer ${named(borrowed[0])} that another pull is fetching`
      : `Waits for ${borrowed.length} layers that other pulls are fetching`
  }
  return fatLayer(left) ?? slots(left)
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

function fatLayer(left: readonly Layer[]): string | undefined {
  if (left.some(layer => !layer.totalKnown)) return undefined
  const sum = left.reduce((bytesLeft, layer) => bytesLeft + remaining(layer), 0)
  const fattest = left.reduce((a, b) => (remaining(b) > remaining(a) ? b : a))
  const share = sum > 0 ? remaining(fattest) / sum : 0
  if (share < LARGE_SHARE) return undefined
  const name = `Bottleneck: layer ${named(fattest)}`
  return left.length === 1
    ? `${name}, the last one`
    : `${name}, ${Math.floor(share * 100)} % of the bytes still to come`
}

function slots(left: readonly Layer[]): string | undefined {
  const waiting = left.filter(({ state, fetchedBy }) => state === 'waiting' && fetchedBy === undefined).length
  const busy = left.length - waiting
  if (waiting === 0 || busy === 0) return undefined
  return `${count(waiting, 'layer waits', 'layers wait')} while ${busy} ${busy === 1 ? 'is' : 'are'} downloading: the node's download slots are busy`
}

function unpacking(layers: readonly Layer[]): string | undefined {
  const current =
    layers.find(({ state }) => state === 'extracting') ?? layers.find(({ state }) => state === 'downloaded')
  if (current === undefined) return undefined
  return `Everything is here; the disk unpacks layer ${named(current)}`
}

function lookingBack(pull: Pull, layers: readonly Layer[]): string | undefined {
  const took = tookSeconds(pull) ?? 0
  const fetched = layers.flatMap(({ completedAt }) => (completedAt === undefined ? [] : [completedAt]))
  if (took < WORTH_SECONDS || fetched.length === 0) return undefined
  const unpackingAlone = took - (Math.max(...fetched) - pull.startedAt) / 1000
  if (unpackingAlone / took >= LARGE_SHARE) {
    return `Unpacking took ${clock(unpackingAlone)} of ${clock(took)} after the last byte had come`
  }
  const slowest = layers.reduce((a, b) => (fetchSeconds(b) > fetchSeconds(a) ? b : a))
  const share = fetchSeconds(slowest) / took
  return share >= LARGE_SHARE && layers.length > 1
    ? `Layer ${named(slowest)} was fetched for ${clock(fetchSeconds(slowest))} of ${clock(took)}`
    : undefined
}

function fetchSeconds({ startedAt, completedAt }: Layer): number {
  return startedAt === undefined || completedAt === undefined ? 0 : (completedAt - startedAt) / 1000
}

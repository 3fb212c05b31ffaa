/** Pulls and layers for tests: what a test does not name is ordinary. */
import { type Layer, type Pull, parsePull } from './wire'

export const T0 = Date.UTC(2026, 10, 23, 14, 0, 0)

const ORDINARY = parsePull({
  id: 'a',
  nodeName: 'worker-01',
  imageRef: 'docker.io/library/nginx:1.27',
  startedAt: new Date(T0).toISOString(),
  status: 'downloading',
  totalBytes: 100e6,
  imageBytes: 100e6,
  totalKnown: true,
})

export function aPull(change: Partial<Pull> = {}): Pull {
  return { ...ORDINARY, ...change }
}

export function aLayer(change: Partial<Layer> = {}): Layer {
  return {
    digest: 'sha256:aaaaaaaaaaaaaaaa',
    mediaType: '',
    totalBytes: 100e6,
    downloadedBytes: 0,
    cachedBytes: 0,
    bytesPerSec: 0,
    percent: 0,
    totalKnown: true,
    state: 'waiting',
    fetchedBy: undefined,
    startedAt: undefined,
    completedAt: undefined,
    extractedAt: undefined,
    ...change,
  }
}

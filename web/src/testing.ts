/** Pulls, layers and pods for tests. If a test does not set a field, the field has a typical value. */
import { type Around, type PodRow, podRow } from './model/podRows'
import { livePulls } from './model/queue'
import { type Context, contextOf, podName } from './model/standing'
import {
  type Attempt,
  type Container,
  type Layer,
  type Pod,
  type PodRef,
  type Pull,
  parsePull,
} from './wire/wire'

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

export function aPod(podName: string, change: Partial<PodRef> = {}): PodRef {
  return {
    namespace: 'shop',
    podName,
    container: 'c',
    owner: undefined,
    waitingReason: undefined,
    ...change,
  }
}

export function anAttempt(change: Partial<Attempt> = {}): Attempt {
  return {
    attempt: 1,
    startedAt: T0,
    completedAt: T0 + 2000,
    errorReason: 'not_found',
    error: undefined,
    percent: 0,
    queuedAt: undefined,
    ...change,
  }
}

/** Creates a context that contains these pulls. If `waiting` is given (as `namespace/name` strings), only these pods
 * are waiting. */
export function aContext(
  pulls: readonly Pull[],
  waiting?: readonly string[],
  now: number = T0 + 60_000,
): Context {
  if (waiting === undefined) return contextOf(pulls, undefined, now)
  const byPull = new Map(
    pulls.map(({ id, pods }) => [id, pods.map(podName).filter(name => waiting.includes(name))]),
  )
  return contextOf(pulls, { names: new Set(waiting), byPull, nodes: new Map(), at: now }, now)
}

export function aLayer(change: Partial<Layer> = {}): Layer {
  return {
    digest: 'sha256:aaaaaaaaaaaaaaaa',
    totalBytes: 100e6,
    downloadedBytes: 0,
    cachedBytes: 0,
    bytesPerSec: 0,
    totalKnown: true,
    state: 'waiting',
    fetchedBy: undefined,
    startedAt: undefined,
    completedAt: undefined,
    extractStartedAt: undefined,
    extractedAt: undefined,
    ...change,
  }
}

/** Creates a container of a pod in the list of waiting pods. */
export function aContainer(change: Partial<Container> = {}): Container {
  return {
    container: 'c',
    image: 'nginx',
    kind: 'app',
    waitingReason: undefined,
    state: 'waiting',
    pullId: undefined,
    percent: undefined,
    etaSeconds: undefined,
    error: undefined,
    ...change,
  }
}

/** Creates a pod in the list of waiting pods. */
export function aListedPod(...containers: readonly Container[]): Pod {
  return {
    namespace: 'ml',
    podName: 'p',
    uid: 'u',
    owner: undefined,
    nodeName: 'n',
    waitingSince: T0,
    containers,
    phases: [],
    tookSeconds: undefined,
    startedAt: undefined,
  }
}

/** Creates a pod that started at `at`, 90 s after it was scheduled, and whose image was queued for most of this time. */
export function aStartedPod(podName: string, at: number): Pod {
  return {
    ...aListedPod(),
    podName,
    startedAt: at,
    tookSeconds: 90,
    phases: [
      { phase: 'scheduled', startedAt: at - 90_000, seconds: 2 },
      { phase: 'queued', startedAt: at - 88_000, seconds: 84 },
      { phase: 'pulling', startedAt: at - 4000, seconds: 3 },
      { phase: 'started', startedAt: at - 1000, seconds: 1 },
    ],
  }
}

/** The pulls that a pod's row depends on, at `T0`. */
export function around(...pulls: readonly Pull[]): Around {
  return { pulls: new Map(pulls.map(pull => [pull.id, pull])), live: livePulls(pulls), now: T0 }
}

/** A node that needs 700 s more for its running pull, and then pulls the images `b` to `e` in this order. `d` has no usual
 * duration. `waits` creates the row of a pod that waits for one of these images. */
export function aQueue(): { all: Around; waits: (image: string, change?: Partial<Pod>) => PodRow } {
  const seconds: Record<string, number | undefined> = { b: 20, c: 5, d: undefined, e: 40 }
  const queue = Object.entries(seconds).map(([id, usualSeconds], at) =>
    aPull({ id, status: 'queued', usualSeconds, startedAt: T0 + at + 1 }),
  )
  const all = around(aPull({ etaSeconds: 700 }), ...queue)
  const waits = (image: string, change: Partial<Pod> = {}) => {
    const listed = aListedPod(aContainer({ pullId: image, image, state: 'queued' }))
    return podRow({ ...listed, podName: image, ...change }, all)
  }
  return { all, waits }
}

/** PURE. Pods that wait for images, with the live state of each image. */
import { registryOf } from './images'
import { byFigure, type Compare } from './pullRows'
import { hasEnded, knownPercent, type PullState, pullState } from './pullState'
import type { Facts } from './query'
import type { Container, PodList, Pull, WaitingPod } from './wire'

export type ContainerRowState = PullState | 'waiting'

export interface ContainerRow {
  readonly container: Container
  readonly state: ContainerRowState
  readonly pull: Pull | undefined
  readonly percent: number | undefined
  readonly etaSeconds: number | undefined
}

export interface PodRow {
  readonly key: string
  readonly pod: WaitingPod
  readonly containers: readonly ContainerRow[]
  /** The container that holds the pod up most. */
  readonly slowest: ContainerRow | undefined
  readonly state: ContainerRowState
  /** Until the longest of its images is ready; absent when one of them has no estimate. */
  readonly etaSeconds: number | undefined
}

const WORST_FIRST: readonly ContainerRowState[] = [
  'failed',
  'stalled',
  'queued',
  'resolving',
  'downloading',
  'extracting',
  'waiting',
  'done',
]

export function podRow(pod: WaitingPod, pulls: ReadonlyMap<string, Pull>): PodRow {
  const containers = pod.containers.map(container => containerRow(container, pulls))
  const open = containers.filter(({ state }) => state !== 'done')
  const slowest = [...(open.length > 0 ? open : containers)].sort(slowestFirst)[0]
  const known = open.every(({ etaSeconds }) => etaSeconds !== undefined)
  const etas = open.flatMap(({ etaSeconds }) => etaSeconds ?? [])
  return {
    key: pod.uid,
    pod,
    containers,
    slowest,
    state: slowest?.state ?? 'waiting',
    etaSeconds: open.length === 0 || !known ? undefined : Math.max(...etas),
  }
}

function containerRow(container: Container, pulls: ReadonlyMap<string, Pull>): ContainerRow {
  const pull = container.pullId === undefined ? undefined : pulls.get(container.pullId)
  return {
    container,
    pull,
    state: pull !== undefined ? pullState(pull) : container.state === 'completed' ? 'done' : container.state,
    percent: pull === undefined ? container.percent : knownPercent(pull),
    // The stream is newer than the list, and a pull that has ended needs no more time.
    etaSeconds: pull === undefined ? container.etaSeconds : hasEnded(pull) ? undefined : pull.etaSeconds,
  }
}

function slowestFirst(a: ContainerRow, b: ContainerRow): number {
  return (
    WORST_FIRST.indexOf(a.state) - WORST_FIRST.indexOf(b.state) || (b.etaSeconds ?? 0) - (a.etaSeconds ?? 0)
  )
}

export function podFacts({ pod, containers }: PodRow): Facts {
  const lower = (words: readonly string[]) => words.map(word => word.toLowerCase())
  return {
    // As its spec says it and as the node asked for it: nginx, docker.io/library/nginx:latest.
    image: lower(containers.flatMap(({ container, pull }) => [container.image, pull?.imageRef ?? ''])),
    node: lower([pod.nodeName]),
    ns: lower([pod.namespace]),
    pod: lower([pod.podName, pod.owner ?? '']),
    status: containers.map(({ state }) => state),
    registry: lower(
      containers.map(({ container, pull }) => registryOf(pull?.imageRef ?? container.image, pull?.registry)),
    ),
  }
}

const name = ({ pod }: PodRow): string => `${pod.namespace}/${pod.podName}`

export const byTrouble: Compare<PodRow> = (a, b) =>
  WORST_FIRST.indexOf(a.state) - WORST_FIRST.indexOf(b.state) ||
  name(a).localeCompare(name(b), 'en', { numeric: true })

export const POD_ORDER: Readonly<Record<string, Compare<PodRow>>> = {
  state: byTrouble,
  pod: (a, b) => name(a).localeCompare(name(b), 'en', { numeric: true }),
  owner: (a, b) => (a.pod.owner ?? '').localeCompare(b.pod.owner ?? ''),
  node: (a, b) => a.pod.nodeName.localeCompare(b.pod.nodeName, 'en', { numeric: true }),
  image: (a, b) => (a.slowest?.container.image ?? '').localeCompare(b.slowest?.container.image ?? ''),
  waiting: byFigure(({ pod }) => pod.waitingSince && -pod.waitingSince),
  ready: byFigure(({ etaSeconds }) => etaSeconds),
}

/** From the list where there is one, otherwise the pods that the stream's unfinished pulls name. */
export function waitingPodCount(pods: PodList | 'missing' | undefined, pulls: Iterable<Pull>): number {
  if (pods !== undefined && pods !== 'missing' && pods.watching) return pods.pods.length
  const found = new Set<string>()
  for (const pull of pulls) {
    if (pull.status === 'completed') continue
    for (const { namespace, podName } of pull.pods) found.add(`${namespace}/${podName}`)
  }
  return found.size
}

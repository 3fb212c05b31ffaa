/** PURE. Which pulls are shown, and in what order. */
import { registryOf } from './images'
import { hasEnded, pullState, stateRank, tookSeconds } from './pullState'
import { type Facts, isEmpty, matches, type Query } from './query'
import type { Sort } from './urlState'
import type { Pull } from './wire'

export type Compare<T> = (a: T, b: T) => number

/** The words of `status:` that fit a pull; stalled and resolving pulls are downloading too, as in the tiles. */
function statusWords(pull: Pull): readonly string[] {
  const state = pullState(pull)
  return state === 'stalled' || state === 'resolving' ? [state, 'downloading'] : [state]
}

export function pullFacts(pull: Pull): Facts {
  return {
    image: [pull.imageRef.toLowerCase()],
    node: [pull.nodeName.toLowerCase()],
    ns: pull.pods.map(pod => pod.namespace.toLowerCase()),
    pod: pull.pods.map(pod => pod.podName.toLowerCase()),
    status: statusWords(pull),
    registry: [registryOf(pull.imageRef, pull.registry).toLowerCase()],
  }
}

/** Trouble first, then what moves, the newest on top: an order that holds still. */
const byAttention: Compare<Pull> = (a, b) =>
  stateRank(a) - stateRank(b) || (b.completedAt ?? b.startedAt) - (a.completedAt ?? a.startedAt) || byId(a, b)

const byId: Compare<Pull> = (a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)

/** What has no figure stands last, whichever way the figures go: infinity is not turned round. */
export function byFigure<T>(figure: (row: T) => number | undefined): Compare<T> {
  return (a, b) => {
    const [x, y] = [figure(a), figure(b)]
    if (x === y) return 0
    return x === undefined ? Infinity : y === undefined ? -Infinity : x - y
  }
}

/** Seconds that the last column shows. */
function timeLeft(pull: Pull): number | undefined {
  if (pull.status === 'failed') return undefined
  return hasEnded(pull) ? tookSeconds(pull) : pull.etaSeconds
}

export const PULL_ORDER: Readonly<Record<string, Compare<Pull>>> = {
  state: (a, b) => stateRank(a) - stateRank(b),
  image: (a, b) => a.imageRef.localeCompare(b.imageRef),
  node: (a, b) => a.nodeName.localeCompare(b.nodeName, 'en', { numeric: true }),
  pods: (a, b) => a.pods.length - b.pods.length,
  progress: (a, b) => a.percent - b.percent,
  speed: (a, b) => a.bytesPerSec - b.bytesPerSec,
  size: (a, b) => a.totalBytes - b.totalBytes,
  left: byFigure(timeLeft),
}

/** Orders whose figures move all the time. */
const RESTLESS: readonly string[] = ['progress', 'speed', 'left']

export function isRestless(sort: Sort | undefined): boolean {
  return sort !== undefined && RESTLESS.includes(sort.column)
}

export function ordered<T>(
  rows: T[],
  sort: Sort | undefined,
  order: Readonly<Record<string, Compare<T>>>,
  natural: Compare<T>,
): T[] {
  const compare = sort === undefined ? undefined : order[sort.column]
  if (compare === undefined) return rows.sort(natural)
  const direction = sort?.descending === true ? -1 : 1
  return rows.sort((a, b) => {
    const found = compare(a, b)
    return (Number.isFinite(found) ? found * direction : found) || natural(a, b)
  })
}

export function pullIds(pulls: Iterable<Pull>, query: Query, sort: Sort | undefined): readonly string[] {
  const all = [...pulls]
  const shown = isEmpty(query) ? all : all.filter(pull => matches(query, pullFacts(pull)))
  return ordered(shown, sort, PULL_ORDER, byAttention).map(({ id }) => id)
}

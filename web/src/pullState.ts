/** PURE. What a person calls the state of a pull, and the numbers that belong to it. */
import type { Pull } from './wire'

export type PullState = 'failed' | 'stalled' | 'resolving' | 'downloading' | 'extracting' | 'queued' | 'done'

export const STATE_WORD: Readonly<Record<PullState, string>> = {
  failed: 'Failed',
  stalled: 'Stalled',
  resolving: 'Resolving',
  downloading: 'Downloading',
  extracting: 'Extracting',
  queued: 'Queued',
  done: 'Done',
}

/** What needs a person first, what is over last. */
const RANK: Readonly<Record<PullState, number>> = {
  failed: 0,
  stalled: 1,
  extracting: 2,
  downloading: 2,
  resolving: 2,
  queued: 3,
  done: 4,
}

export function pullState(pull: Pull): PullState {
  if (pull.status === 'completed') return 'done'
  if (pull.status === 'failed') return 'failed'
  if (pull.stalledSince !== undefined) return 'stalled'
  return pull.status
}

export function stateRank(pull: Pull): number {
  return RANK[pullState(pull)]
}

/** Nothing while what there is to fetch is not known. */
export function knownPercent(pull: Pull): number | undefined {
  return pull.totalKnown || pull.status === 'completed' ? pull.percent : undefined
}

export function hasEnded(pull: Pull): boolean {
  return pull.status === 'completed' || pull.status === 'failed'
}

export function tookSeconds(pull: Pull): number | undefined {
  return pull.completedAt === undefined ? undefined : (pull.completedAt - pull.startedAt) / 1000
}

/** Bytes per second over the whole of an ended pull; nothing when nothing was fetched. */
export function averageRate(pull: Pull): number | undefined {
  const took = tookSeconds(pull)
  return took === undefined || took <= 0 || pull.downloadedBytes === 0
    ? undefined
    : pull.downloadedBytes / took
}

/** Lazy snapshotters bring an image without fetching its layers first: there is no progress to show. */
const LAZY_SNAPSHOTTERS: readonly string[] = ['stargz', 'nydus', 'soci', 'gcfs', 'overlaybd']

export function progressUnavailable(pull: Pull): boolean {
  return pull.snapshotter !== undefined && LAZY_SNAPSHOTTERS.includes(pull.snapshotter)
}

export interface StateCounts {
  readonly queued: number
  readonly downloading: number
  readonly extracting: number
  readonly failed: number
  readonly done: number
  readonly stalled: number
}

/** Resolving and stalled pulls count as downloading: every pull stands in exactly one tile. `stalled` is told apart too. */
export function countStates(pulls: Iterable<Pull>): StateCounts {
  const counts = { queued: 0, downloading: 0, extracting: 0, failed: 0, done: 0, stalled: 0 }
  for (const pull of pulls) {
    const state = pullState(pull)
    if (state === 'stalled') counts.stalled += 1
    counts[state === 'stalled' || state === 'resolving' ? 'downloading' : state] += 1
  }
  return counts
}

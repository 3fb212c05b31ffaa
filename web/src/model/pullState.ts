/** The state of a pull in words, and values such as its rate and its remaining time. */
import type { Limit, LimitName, Pull } from '../wire/wire'
import { percent } from './format'

export type PullState =
  | 'failed'
  | 'cancelled'
  | 'stalled'
  | 'resolving'
  | 'downloading'
  | 'extracting'
  | 'queued'
  | 'unobserved'
  | 'done'

export const STATE_WORD: Readonly<Record<PullState, string>> = {
  failed: 'Failed',
  cancelled: 'Cancelled',
  stalled: 'Stalled',
  resolving: 'Resolving',
  downloading: 'Downloading',
  extracting: 'Extracting',
  queued: 'Queued',
  unobserved: 'Unobserved',
  done: 'Done',
}

export const STATE_MEANING: Readonly<Record<PullState, string>> = {
  failed: 'The pull failed with an error.',
  cancelled: 'The pull was stopped, for example because its pod was deleted. The open row names the pod.',
  stalled: 'No bytes have arrived recently.',
  resolving: 'The node requests the image’s manifest.',
  downloading: 'The node is downloading layers.',
  extracting: 'The node is unpacking layers; all bytes may already have arrived.',
  queued: 'The kubelet has requested the image, but the node has not started to pull it.',
  unobserved: 'The kubelet has requested the image on a node without a reporting agent.',
  done: 'The pull has completed. The page does not show whether the image is removed later.',
}

export function pullState(pull: Pull): PullState {
  if (pull.status === 'completed') return 'done'
  if (pull.status === 'failed') return pull.errorReason === 'canceled' ? 'cancelled' : 'failed'
  if (pull.stalledSince !== undefined) return 'stalled'
  return isRetrying(pull) ? 'failed' : pull.status
}

/** Whether a failed pull is being retried. A retry often fails within a second, so the pull counts as failed until the
 * first byte arrives. An attempt that waits behind other pulls counts as queued. */
export function isRetrying(pull: Pull): boolean {
  const isStarting = pull.status === 'resolving' || pull.bound?.by === 'unknown'
  return isRetryOfFailure(pull) && isStarting
}

/** Whether a failure or a cancellation is shown instead of the pull's progress. */
export function hasFailed(pull: Pull): boolean {
  return pull.status === 'failed' || isRetrying(pull)
}

/** Whether the pull is a retry that has not received any bytes yet. */
export function isRetry({ attempt, downloadedBytes, status }: Pull): boolean {
  return attempt > 1 && downloadedBytes === 0 && (status === 'queued' || status === 'resolving')
}

function isRetryOfFailure(pull: Pull): boolean {
  return isRetry(pull) && pull.earlier.at(-1)?.errorReason !== 'canceled'
}

/** Whether the pull is a retry after a failure (not after a cancellation) and has not received any bytes yet. */
export function isFailingRetry(pull: Pull): boolean {
  return isRetryOfFailure(pull) && pull.failingSince !== undefined
}

export const RETRY_QUEUED = 'Retry queued'

export function stateWord(pull: Pull): string {
  const state = pullState(pull)
  return state === 'queued' && isFailingRetry(pull) ? RETRY_QUEUED : STATE_WORD[state]
}

/** The progress of the pull in percent; undefined while the size of the download is unknown. */
export function knownPercent(pull: Pull): number | undefined {
  return pull.totalKnown || pull.status === 'completed' || pull.percentBasis === 'layers'
    ? pull.percent
    : undefined
}

/** The progress of the pull: `58 %`, or `2/4` layers if the bytes cannot be observed. Empty if it is unknown. */
export function progressFigure(pull: Pull): string {
  const { percentBasis, layerCount, layersDone, status } = pull
  if (percentBasis === 'layers' && layerCount > 0 && status !== 'completed')
    return `${layersDone}/${layerCount}`
  const known = knownPercent(pull)
  return known === undefined ? '' : percent(known)
}

export function hasEnded({ status }: Pick<Pull, 'status'>): boolean {
  return status === 'completed' || status === 'failed'
}

/** Whether an attempt was cancelled while it was queued. The server then reports the same time for its request and its
 * start. */
export function neverBegan({ status, queuedAt, startedAt }: Pull): boolean {
  return status === 'failed' && queuedAt === startedAt
}

/** Undefined if the pull has not ended or never began. */
export function tookSeconds(pull: Pull): number | undefined {
  const { completedAt, startedAt } = pull
  return completedAt === undefined || neverBegan(pull) ? undefined : (completedAt - startedAt) / 1000
}

/** Whether other pulls on the node have received bytes since this pull stalled. If so, the node's network is not the
 * cause. */
export function isOnlyPullStalled(stalled: Pull, pulls: readonly Pull[]): boolean {
  const { id, nodeName, stalledSince = Infinity } = stalled
  return pulls.some(
    other =>
      other.id !== id &&
      other.nodeName === nodeName &&
      ((other.bytesPerSec > 0 && !hasEnded(other)) || (other.downloadedAt ?? 0) > stalledSince),
  )
}

/** The average rate at which a finished pull downloaded, in bytes per second; undefined if it downloaded nothing. The
 * time after the last byte arrived is not included, unless that moment is unknown. */
export function averageRate(pull: Pull): number | undefined {
  const { startedAt, downloadedAt, completedAt, downloadedBytes } = pull
  const seconds = ((downloadedAt ?? completedAt ?? startedAt) - startedAt) / 1000
  return seconds <= 0 || downloadedBytes === 0 ? undefined : downloadedBytes / seconds
}

/** The current rate of a download or the average rate of a completed pull, in bytes per second; undefined if unknown. */
export function shownRate(pull: Pull): number | undefined {
  if (pull.status === 'completed') return averageRate(pull)
  const isHidden = pull.percentBasis === 'layers' && pull.bytesPerSec === 0
  return pull.status === 'downloading' && !isHidden ? pull.bytesPerSec : undefined
}

/** Seconds until the image is ready. The server made its estimate at `updatedAt`, so the time that has passed since
 * then is subtracted. */
export function remainingSeconds(pull: Pull, now: number): number | undefined {
  if (hasEnded(pull) || pull.etaSeconds === undefined) return undefined
  const elapsed = pull.updatedAt === 0 ? 0 : Math.max(0, now - pull.updatedAt) / 1000
  return Math.max(0, pull.etaSeconds - elapsed)
}

/**
 * Factors that can also limit unpacking. The server may have measured any other factor before the last byte arrived.
 */
const OF_UNPACKING: readonly LimitName[] = ['disk', 'cpu', 'queue', 'snapshotter']

/** The factor that currently limits the pull; undefined if unknown. */
export function limitNow({ bound, status }: Pull): Limit | undefined {
  if (bound === undefined || bound.by === 'unknown') return undefined
  return status !== 'extracting' || OF_UNPACKING.includes(bound.by) ? bound : undefined
}

/** The fraction of `totalBytes` that has been unpacked, from 0 to 1; undefined while the total is unknown. */
export function unpackedShare(pull: Pull): number | undefined {
  return pull.totalBytes > 0 ? Math.min(1, pull.extractedBytes / pull.totalBytes) : undefined
}

/** Describes how far a cancelled pull got. */
export function stopped({ layerCount, percent: done }: Pull): string {
  return layerCount === 0 && done === 0
    ? 'stopped before any bytes were observed'
    : `stopped at ${percent(done)}`
}

/** The state of a pull in words, and its figures. */
import type { Pull } from '../wire/wire'
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
  failed: 'The pull ended with an error.',
  cancelled:
    'The pull was stopped before it ended, for example because its pod was deleted. It is not a failure; the open row names the pod.',
  stalled: 'No bytes have arrived for 30 seconds.',
  resolving: 'The node is requesting the manifest of the image from the registry.',
  downloading: 'The node is downloading layers.',
  extracting: 'The node is unpacking layers; all bytes may already have arrived.',
  queued: 'The kubelet has requested the image, but the node has not started to pull it.',
  unobserved: 'The kubelet has requested the image on a node without a reporting agent.',
  done: 'The image is on the node.',
}

export function pullState(pull: Pull): PullState {
  if (pull.status === 'completed') return 'done'
  if (pull.status === 'failed') return pull.errorReason === 'canceled' ? 'cancelled' : 'failed'
  if (pull.stalledSince !== undefined) return 'stalled'
  return pull.status
}

/** Undefined while the size of the download is unknown. */
export function knownPercent(pull: Pull): number | undefined {
  return pull.totalKnown || pull.status === 'completed' || pull.percentBasis === 'layers'
    ? pull.percent
    : undefined
}

export function hasEnded({ status }: Pick<Pull, 'status'>): boolean {
  return status === 'completed' || status === 'failed'
}

export function tookSeconds(pull: Pull): number | undefined {
  return pull.completedAt === undefined ? undefined : (pull.completedAt - pull.startedAt) / 1000
}

/** Bytes per second over the whole duration of an ended pull; undefined if nothing was downloaded. */
export function averageRate(pull: Pull): number | undefined {
  const took = tookSeconds(pull)
  return took === undefined || took <= 0 || pull.downloadedBytes === 0
    ? undefined
    : pull.downloadedBytes / took
}

/** Seconds until the image is ready. The server's estimate is valid at `updatedAt` and counts down from
 * there. */
export function remainingSeconds(pull: Pull, now: number): number | undefined {
  if (hasEnded(pull) || pull.etaSeconds === undefined) return undefined
  const elapsed = pull.updatedAt === 0 ? 0 : Math.max(0, now - pull.updatedAt) / 1000
  return Math.max(0, pull.etaSeconds - elapsed)
}

/** The share of the downloaded bytes that has been unpacked, 0 to 1; undefined while it is unknown. */
export function unpackedShare(pull: Pull): number | undefined {
  return pull.totalBytes > 0 ? Math.min(1, pull.extractedBytes / pull.totalBytes) : undefined
}

/** How far a cancelled pull got. */
export function stopped({ layerCount, percent: done }: Pull): string {
  return layerCount === 0 && done === 0 ? 'stopped before it began' : `stopped at ${percent(done)}`
}

/** The usual duration is mentioned only if the actual one differs by at least this factor and this many seconds. */
const UNUSUAL = 1.5
const UNUSUAL_SECONDS = 10

/** How many times slower than usual a pull is; undefined if it is not slower. The server considers the time that the
 * pull has taken so far. The page also considers the time that the pull is expected to take. */
export function slowFactor(pull: Pull, now: number): number | undefined {
  if (pull.slowerThanUsual !== undefined) return pull.slowerThanUsual
  const usual = pull.usualSeconds
  const expected = expectedSeconds(pull, now)
  // The first estimates for a pull are too uncertain.
  if (usual === undefined || expected === undefined || now - pull.startedAt < 1000 * UNUSUAL_SECONDS)
    return undefined
  return expected >= usual * UNUSUAL && expected - usual >= UNUSUAL_SECONDS ? expected / usual : undefined
}

/** The duration of a live pull from its start until it is expected to be ready. */
function expectedSeconds(pull: Pull, now: number): number | undefined {
  const left = remainingSeconds(pull, now)
  return left === undefined ? undefined : (now - pull.startedAt) / 1000 + left
}

/** The usual duration of this image on this node, if the pull is slow or if the difference is large. */
export function unusualSeconds(pull: Pull, now: number): number | undefined {
  const usual = pull.usualSeconds
  if (slowFactor(pull, now) !== undefined) return usual
  if (pull.status === 'failed') return undefined
  const whole = tookSeconds(pull) ?? expectedSeconds(pull, now)
  if (usual === undefined || whole === undefined) return undefined
  if (Math.abs(whole - usual) < UNUSUAL_SECONDS) return undefined
  return whole > usual * UNUSUAL || whole < usual / UNUSUAL ? usual : undefined
}

/** Describes what limits a pull: a word and a number for the row, and a sentence for the open row. */
import type { Limit, LimitName, Pull } from '../wire/wire'
import { bottleneck } from './bottleneck'
import { type Comparison, compareNodes, isLikeElsewhere, isSlowNode } from './comparison'
import { causeWords, isCancelled } from './failureGroups'
import { clock, count, duration, joined, listed, percent, rate, soon, times } from './format'
import { imageName } from './images'
import { hasEnded, isRetry, limitNow, remainingSeconds, unpackedShare } from './pullState'
import { forecast, isTooShort, placeWords, positionWords, type QueuePlace } from './queue'

export const LIMIT_WORDS: Readonly<Record<LimitName, string>> = {
  registry: 'registry',
  mirror: 'mirror',
  network: 'network',
  disk: 'disk',
  cpu: 'CPU',
  queue: 'queue',
  slots: 'download slots',
  layer: 'one layer',
  rate_limit: 'rate limit',
  snapshotter: 'snapshotter',
  unknown: '',
}

/** The word and the number that a row shows. Both can be determined without the pull's layers. */
export function limitWord(pull: Pull, place: QueuePlace | undefined): string {
  return joined(', ', earlierWords(pull), place === undefined ? boundWord(pull) : placeWords(place))
}

function boundWord(pull: Pull): string {
  const limit = limitNow(pull)
  if (limit !== undefined) return `${LIMIT_WORDS[limit.by]} ${figureOf(pull, limit)}`.trim()
  const share = unpackedShare(pull)
  return pull.status === 'extracting' && share !== undefined ? `${percent(share * 100)} unpacked` : ''
}

/** For a retry after a failure, why the attempt failed, such as `attempt 4: not found`. For any other pull, whether an attempt was
 * cancelled earlier. */
function earlierWords(pull: Pull): string {
  const last = pull.earlier.at(-1)
  if (last !== undefined && isRetry(pull) && !isCancelled(last))
    return `attempt ${last.attempt}: ${causeWords(last)}`
  return pull.earlier.some(isCancelled) ? 'cancelled before' : ''
}

/** Explains why a pod is waiting: lists the pulls ahead in the queue or the limiting factor, or says why there is no
 * estimate. */
export function delayWords(pull: Pull, place: QueuePlace | undefined, now: number): string {
  if (place === undefined) return pull.etaMissing ?? limitWord(pull, undefined)
  const { unknown } = forecast(pull, place, now)
  return joined(', ', earlierWords(pull), behind(place), noEstimate(pull, unknown, place))
}

/** Identifies the pull that has no estimate. The text is empty if every pull has an estimate. */
function noEstimate(pull: Pull, unknown: Pull | undefined, { deleted }: QueuePlace): string {
  if (unknown === undefined) return ''
  if (deleted) return `no estimate for ${ofDeleted(deleted)}`
  const name = unknown === pull ? 'this image' : shortName(unknown)
  return isTooShort(unknown) ? `${name} may take longer than on other nodes` : `no estimate for ${name}`
}

/** `library/nginx:1.29` */
export function shortName({ imageRef }: Pick<Pull, 'imageRef'>): string {
  const { repository, tag } = imageName(imageRef)
  return repository + tag
}

/** For a finished pull, the percentage of its duration during which this factor limited it. For a live pull, the value
 * that best illustrates the limiting factor. */
function figureOf(pull: Pull, { by, figures }: Limit): string {
  const { percentOfTime, bytesPerSec, diskBusyPercent, cpuPressurePercent, layerBytes, totalBytes } = figures
  if (hasEnded(pull)) return percentOfTime === undefined ? '' : `${percent(percentOfTime)} of the time`
  switch (by) {
    case 'registry':
    case 'network':
      return rate(bytesPerSec ?? pull.bytesPerSec)
    case 'disk':
      return diskBusyPercent === undefined ? '' : percent(diskBusyPercent)
    case 'cpu':
      return cpuPressurePercent === undefined ? '' : percent(cpuPressurePercent)
    case 'layer':
      return layerBytes === undefined || totalBytes === undefined
        ? ''
        : percent((100 * layerBytes) / totalBytes)
    default:
      return ''
  }
}

/** The sentences in the open row: whether the pull blocks others, whether it is slow, and what limits it. */
export function explanation(blocked: string, ...args: Parameters<typeof limitSentence>): string | undefined {
  return join(blocked, slowSentence(args[0]), limitSentence(...args) ?? '') || undefined
}

/** A sentence that explains what limits a pull. A slow node takes precedence over a slow layer. */
export function limitSentence(
  pull: Pull,
  place: QueuePlace | undefined,
  pulls: Iterable<Pull>,
  now: number,
): string | undefined {
  if (place !== undefined) return queueSentence(pull, place, now)
  const comparison = pull.stalledSince === undefined ? compareNodes(pull, pulls, now) : undefined
  const compared = comparison === undefined ? '' : comparisonSentence(comparison)
  const limit = limitNow(pull)
  if (limit?.why) return join(limit.why, compared)
  // The measurements do not identify one limit, but the comparison does.
  if (comparison !== undefined && isSlowNode(comparison)) return compared
  if (pull.bound?.by === 'unknown') return join(pull.bound.why, compared)
  return join(bottleneck(pull, now) ?? '', compared) || undefined
}

function join(...parts: readonly string[]): string {
  return joined(' ', ...parts.map(part => (/[.!?]$|^$/.test(part) ? part : `${part}.`)))
}

function queueSentence(pull: Pull, place: QueuePlace, now: number): string {
  const ahead = behind(place)
  if (ahead === '') return 'The node has not started to pull this image.'
  const { start, ready, unknown } = forecast(pull, place, now)
  const words = positionWords(place).replace('in queue', 'in the queue of this node')
  return join(
    `${words === 'next' ? 'Next in the queue of this node' : words}, ${ahead}`,
    unknown === undefined
      ? `If the pulls take as long as usual, it starts in ${clock(start)} and is ready in ${clock(ready)}`
      : `It starts in about ${clock(start)} at the earliest: ${noEstimate(pull, unknown, place)}`,
  )
}

/** `behind library/nginx:1.29 and 2 more, and 1 pull of deleted pods`; empty if no pull is ahead. */
function behind({ ahead, deleted = 0 }: QueuePlace): string {
  const shown = ahead.length > 0 && listed(ahead.map(shortName), 1)
  const all = joined(', and ', shown, deleted > 0 && ofDeleted(deleted))
  return all && `behind ${all}`
}

const ofDeleted = (pulls: number): string => `${count(pulls, 'pull')} of deleted pods`

function comparisonSentence(comparison: Comparison): string {
  const { here, elsewhere, nodes } = comparison
  const figures = `${rate(here)} on this node, ${rate(elsewhere)} on ${nodes === 1 ? 'another node' : 'other nodes'}`
  if (isSlowNode(comparison)) return `${figures}: the node or its network is slow.`
  return isLikeElsewhere(comparison) ? `${figures}.` : ''
}

/** Describes how many times slower than usual a pull is. The text is empty if the pull is not slower than usual. */
export function slowSentence(pull: Pull): string {
  const factor = pull.slowerThanUsual
  if (factor === undefined || pull.usualSeconds === undefined) return ''
  return `Slower than usual: ${times(factor)} the usual ${usualWords(pull, pull.usualSeconds)}${basisWords(pull)}.`
}

/** A value between the usual one divided by this factor and the usual one multiplied by it is about as usual. */
const AS_USUAL = 1.25
const RATE_AS_USUAL = 1.5

/** Compares a rate with the usual rate: `about as usual there (17 MB/s)`, `0.5× the usual 17 MB/s there`. */
export function comparedRate(speed: number, usual: number): string {
  const factor = speed / usual
  const isUsual = factor <= RATE_AS_USUAL && factor >= 1 / RATE_AS_USUAL
  return isUsual ? `about as usual there (${rate(usual)})` : `${times(factor)} the usual ${rate(usual)} there`
}

/** Compares the expected duration of a pull, in seconds, with its usual duration: `about as usual`, `1.6× the usual
 * time`. Empty if the two cannot be compared, or if the pull is slow, which has a sentence of its own. */
export function asUsualWords(pull: Pull, seconds: number): string {
  const { usualSeconds, usualComparable, slowerThanUsual } = pull
  if (!usualSeconds || !usualComparable || slowerThanUsual !== undefined) return ''
  const factor = seconds / usualSeconds
  if (factor > AS_USUAL) return `${times(factor)} the usual time`
  return factor < 1 / AS_USUAL ? 'faster than usual' : 'about as usual'
}

const BASIS_WORDS: Readonly<Record<NonNullable<Pull['usualBasis']>, string>> = {
  image: '',
  repository: 'other pulls of this repository',
  size: 'images of this size',
  registry: 'other images of this registry',
  node: 'other registries on this node',
  other_nodes: 'other nodes',
}

/** The usual duration; `≈` marks an estimate. */
export function usualWords({ usualBasis = 'image' }: Pull, seconds: number): string {
  return (BASIS_WORDS[usualBasis] && '≈ ') + clock(seconds)
}

/** The basis of a usual duration: ` at this node’s speed, estimated from other pulls of this repository (median of 5
 * pulls)`. The server adjusts the durations of pulls on other nodes, unless the basis is `other_nodes`. */
export function basisWords({ usualBasis = 'image', usualCount = 0, usualComparable }: Pull): string {
  const basis = BASIS_WORDS[usualBasis]
  const median = usualCount > 1 ? 'median of ' : ''
  const tooFew = usualComparable ? '' : ', too few or too different to call a pull slow'
  return joined(
    '',
    usualBasis !== 'other_nodes' && ' at this node’s speed',
    basis && `, estimated from ${basis}`,
    usualCount > 0 && ` (${median}${count(usualCount, 'pull')}${tooFew})`,
  )
}

/** The remaining time in words; undefined if there is no estimate. */
export function timeLeftWords(pull: Pull, now: number): string | undefined {
  const left = remainingSeconds(pull, now)
  if (left === undefined) return undefined
  return pull.status === 'extracting' && left >= 60
    ? `about ${duration(60 * Math.round(left / 60))}`
    : soon(left)
}

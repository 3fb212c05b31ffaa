/** The factor that limits a pull: one word with its figure for the row, and a sentence for the open row. */
import type { Limit, LimitName, Pull } from '../wire/wire'
import { bottleneck } from './bottleneck'
import { type Comparison, compareNodes, isLikeElsewhere, isSlowNode } from './comparison'
import { clock, duration, percent, rate, times } from './format'
import { imageName } from './images'
import { hasEnded, remainingSeconds, slowFactor, unpackedShare } from './pullState'
import { forecast, ordinal, placeWords, type QueuePlace } from './queue'

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

/** The word and the figure in the row; neither needs the layers of the pull. */
export function limitWord(pull: Pull, place: QueuePlace | undefined): string {
  if (place !== undefined) return placeWords(place)
  if (pull.bound !== undefined && pull.bound.by !== 'unknown') {
    return `${LIMIT_WORDS[pull.bound.by]} ${figureOf(pull, pull.bound)}`.trim()
  }
  const share = unpackedShare(pull)
  return pull.status === 'extracting' && share !== undefined ? `${percent(share * 100)} unpacked` : ''
}

/** Explains why a pod is waiting: names the pulls ahead in the queue, the factor that limits the pull, or the reason for
 * a missing estimate. */
export function delayWords(pull: Pull, place: QueuePlace | undefined, now: number): string {
  const words =
    place === undefined
      ? [pull.etaMissing ?? limitWord(pull, undefined)]
      : [behind(place), noEstimate(pull, forecast(pull, place, now).unknown)]
  return words.filter(Boolean).join(', ')
}

/** Empty if every pull has an estimate. */
function noEstimate(pull: Pull, unknown: Pull | undefined): string {
  if (unknown === undefined) return ''
  return `no estimate for ${unknown === pull ? 'this image' : shortName(unknown)}`
}

/** `library/nginx:1.29` */
export function shortName({ imageRef }: Pick<Pull, 'imageRef'>): string {
  const { repository, tag } = imageName(imageRef)
  return repository + tag
}

/** For an ended pull, for what share of its duration the factor limited it. For a live pull, the figure that shows the
 * limit best. */
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

/** The sentences in the open row: whether the pull is slow, and what limits the pull. */
export function explanation(...args: Parameters<typeof limitSentence>): string | undefined {
  return join(slowSentence(args[0], args[3]), limitSentence(...args) ?? '') || undefined
}

/** The factor that limits a pull. Other nodes are compared before a layer is blamed. */
export function limitSentence(
  pull: Pull,
  place: QueuePlace | undefined,
  pulls: Iterable<Pull>,
  now: number,
): string | undefined {
  if (place !== undefined) return queueSentence(pull, place, now)
  const comparison = pull.stalledSince === undefined ? compareNodes(pull, pulls, now) : undefined
  const compared = comparison === undefined ? '' : comparisonSentence(comparison)
  if (pull.bound !== undefined && pull.bound.why !== '') return join(pull.bound.why, compared)
  if (comparison !== undefined && isSlowNode(comparison)) return compared
  return join(bottleneck(pull, now) ?? '', compared) || undefined
}

function join(...parts: readonly string[]): string {
  return parts
    .filter(Boolean)
    .map(part => (/[.!?]$/.test(part) ? part : `${part}.`))
    .join(' ')
}

function queueSentence(pull: Pull, place: QueuePlace, now: number): string {
  const ahead = behind(place)
  if (ahead === '') return 'The node has not started to pull this image.'
  const { start, ready, unknown } = forecast(pull, place, now)
  const position = place.position === 1 ? 'Next' : ordinal(place.position)
  return join(
    `${position} in the queue of this node, ${ahead}`,
    unknown === undefined
      ? `If the pulls take as long as usual, it starts in ${clock(start)} and is ready in ${clock(ready)}`
      : `It starts in ${clock(start)} at the earliest: there is ${noEstimate(pull, unknown)}`,
  )
}

/** `behind library/nginx:1.29 and 2 more`; empty if no pull is ahead. */
function behind({ ahead }: QueuePlace): string {
  const [first] = ahead
  if (first === undefined) return ''
  return `behind ${shortName(first)}${ahead.length > 1 ? ` and ${ahead.length - 1} more` : ''}`
}

function comparisonSentence(comparison: Comparison): string {
  const { here, elsewhere, nodes } = comparison
  const figures = `${rate(here)} on this node, ${rate(elsewhere)} on ${nodes === 1 ? 'another node' : 'other nodes'}`
  if (isSlowNode(comparison)) return `${figures}: the node or its network is slow.`
  return isLikeElsewhere(comparison) ? `${figures}: the registry or the network to it limits the speed.` : ''
}

/** Empty if the pull is not slower than usual. */
export function slowSentence(pull: Pull, now: number): string {
  const factor = slowFactor(pull, now)
  if (factor === undefined || pull.usualSeconds === undefined) return ''
  return `Slower than usual: ${times(factor)} the usual ${clock(pull.usualSeconds)}.`
}

/** The remaining time in words; undefined without an estimate. */
export function timeLeftWords(pull: Pull, now: number): string | undefined {
  const left = remainingSeconds(pull, now)
  if (left === undefined) return undefined
  return pull.status === 'extracting' && left >= 60 ? `about ${duration(left)}` : soon(left)
}

/** `any moment`, `48 s`, `1:14` */
export function soon(seconds: number): string {
  return seconds < 1 ? 'any moment' : clock(seconds)
}

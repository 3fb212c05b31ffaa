/** Describes in one line what was happening at a given moment. */
import type { Attempt, Pull } from '../wire/wire'
import { groupBy, isCancelled } from './failureGroups'
import { count, listed, rate, secondOfDay, timeOfDay } from './format'
import { shortName } from './limit'
import { spansOf } from './pullRows'
import { hasEnded, neverBegan, stateWord } from './pullState'
import { overlaps, secondFrom } from './query'
import { firstDone } from './standing'
import { axis, ratesAt, type Sample, total } from './throughput'

/** The attempts that were queued or running at the given moment, each represented as a pull. */
export function attemptsAt(pulls: Iterable<Pull>, at: number): readonly Pull[] {
  return [...pulls].flatMap(pull => attemptAt(pull, at) ?? [])
}

function attemptAt(pull: Pull, at: number): Pull | undefined {
  const [current, ...earlier] = spansOf(pull).map(span => overlaps(span, secondFrom(at)))
  // The factor that currently limits a live pull may not have limited it at that moment.
  if (current) return hasEnded(pull) ? pull : { ...pull, bound: undefined }
  const found = pull.earlier[earlier.indexOf(true)]
  return found && asPull(pull, found)
}

/** An earlier attempt, represented as a pull. The server keeps neither its layers nor its byte counts. */
function asPull(pull: Pull, found: Attempt): Pull {
  return {
    ...pull,
    ...found,
    status: 'failed',
    startedAt: found.startedAt ?? found.completedAt,
    earlier: pull.earlier.filter(({ attempt }) => attempt < found.attempt),
    totalKnown: false,
    totalBytes: 0,
    downloadedBytes: 0,
    extractedBytes: 0,
    cachedBytes: 0,
    remoteBytes: 0,
    layers: [],
    layerCount: 0,
    layersDone: 0,
    bound: undefined,
    stalledSince: undefined,
    failingSince: undefined,
    nextRetryAt: undefined,
    slowerThanUsual: undefined,
  }
}

const MOST_NAMES = 3

/** Whether an attempt was queued at that moment, rather than running. An attempt that is still queued was queued then,
 * too. */
export function wasQueued(pull: Pull, at: number): boolean {
  return pull.status === 'queued' || pull.startedAt >= at + 1000 || neverBegan(pull)
}

/** Whether an attempt had failed by that moment and the next one was neither queued nor running. */
function isBetweenAttempts(pull: Pull, at: number): boolean {
  const { status, startedAt, nextRetryAt, earlier } = pull
  const ended = status === 'failed' ? [...earlier, pull] : earlier
  const last = ended.filter(({ completedAt = Infinity }) => completedAt <= at).at(-1)
  const isRunning = spansOf(pull).some(span => overlaps(span, secondFrom(at)))
  return (
    last !== undefined && !isCancelled(last) && !isRunning && (startedAt > at || nextRetryAt !== undefined)
  )
}

/** `At 14:05:30: 7 pulls were in progress and at least 2 were queued, 84 MB/s. Their rows show the present: 5 done, 2
 * still downloading, 2 still queued.` The line also says what is missing: queued pulls that never started, pulls that are
 * no longer listed, and the throughput if it is not known for that moment. */
export function momentWords(at: number, pulls: readonly Pull[], samples: readonly Sample[]): string {
  const attempts = attemptsAt(pulls, at)
  const queued = attempts.filter(pull => wasQueued(pull, at)).length
  const states = [...groupBy(attempts, stateWord)].map(
    ([word, [first, ...others]]) =>
      `${others.length + 1} ${hasEnded(first) ? '' : 'still '}${word.toLowerCase()}`,
  )
  const failed = pulls.filter(pull => isBetweenAttempts(pull, at))
  const oldest = firstDone(pulls)
  return [
    `At ${secondOfDay(at)}: ${count(attempts.length - queued, 'pull was', 'pulls were')} in progress${queued > 0 ? ` and at least ${count(queued, 'was', 'were')} queued` : ''}${rateWords(at, samples)}.`,
    ...(states.length > 0 ? [`Their rows show the present: ${states.join(', ')}.`] : []),
    ...(failed.length > 0
      ? [
          `Waiting for a retry: ${listed(
            failed.map(pull => `${shortName(pull)} on ${pull.nodeName}`),
            MOST_NAMES,
          )}.`,
        ]
      : []),
    'Not included: queued pulls that never started, and failed pulls whose pods were deleted later.',
    ...(oldest !== undefined && at < oldest
      ? [`The list contains no pull that ended before ${timeOfDay(oldest)}.`]
      : []),
  ].join(' ')
}

function rateWords(at: number, samples: readonly Sample[]): string {
  const [first] = samples
  if (first !== undefined && at < first.at)
    return `; the throughput is known only since ${timeOfDay(first.at)}`
  const rates = placeOf(at, samples) === undefined ? undefined : ratesAt(samples, at)
  return rates === undefined ? '; the throughput is not known' : `, ${rate(total(rates))}`
}

/** The position of a moment on the chart's time axis, from 0 to 1; undefined if the chart does not show it. */
export function placeOf(at: number, samples: readonly Sample[]): number | undefined {
  const [start, end] = axis(samples)
  const place = (at - start) / (end - start)
  return at >= (samples[0]?.at ?? Infinity) && place <= 1 ? place : undefined
}

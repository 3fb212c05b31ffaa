/** Describes in one line what was going on at a given moment. */
import type { Pull } from '../wire/wire'
import { groupBy } from './failureGroups'
import { count, rate, secondOfDay, timeOfDay } from './format'
import { spansOf } from './pullRows'
import { stateWord } from './pullState'
import { firstDone } from './standing'
import { axis, reading, type Sample, total } from './throughput'

/** `At 14:05:30: 7 pulls were in progress, 84 MB/s. Now: 5 done, 2 failed.` If the throughput is not known for
 * that moment, or the pulls that ended before it are no longer listed, the line also says so. */
export function momentWords(at: number, pulls: readonly Pull[], samples: readonly Sample[]): string {
  const running = pulls.filter(pull => spansOf(pull).some(([start, end]) => start <= at && at <= end))
  const states = [...groupBy(running, stateWord)].map(
    ([word, { length }]) => `${length} ${word.toLowerCase()}`,
  )
  const oldest = firstDone(pulls)
  return [
    `At ${secondOfDay(at)}: ${count(running.length, 'pull was', 'pulls were')} in progress${rateWords(at, samples)}.`,
    ...(states.length > 0 ? [`Now: ${states.join(', ')}.`] : []),
    'The list also contains the pulls of the 30 s before and after.',
    ...(oldest !== undefined && at < oldest
      ? [`It contains no pull that ended before ${timeOfDay(oldest)}.`]
      : []),
  ].join(' ')
}

function rateWords(at: number, samples: readonly Sample[]): string {
  const place = placeOf(at, samples)
  const [first] = samples
  if (first !== undefined && at < first.at)
    return `; the throughput is known only since ${timeOfDay(first.at)}`
  const rates = place === undefined ? undefined : reading(samples, place)?.rates
  return rates === undefined ? '; the throughput is not known' : `, ${rate(total(new Map(rates)))}`
}

/** The position of a moment on the chart's time axis, from 0 to 1; undefined if the chart does not show it. */
export function placeOf(at: number, samples: readonly Sample[]): number | undefined {
  const [start, end] = axis(samples)
  const place = (at - start) / (end - start)
  return at >= (samples[0]?.at ?? Infinity) && place <= 1 ? place : undefined
}

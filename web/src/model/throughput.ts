/** The download rate from each registry over the last few minutes, in bytes per second. */
import type { Pull, ThroughputHistory } from '../wire/wire'
import { groupBy, REASON_WORDS } from './failureGroups'
import { bytes, count, timeOfDay } from './format'
import { addRegistries, hueOf } from './hues'
import { registryOf, UNKNOWN_REGISTRY } from './images'
import { shortName } from './limit'
import { hasEnded } from './pullState'
import { linkTime, secondFrom } from './query'

export const WINDOW_MS = 10 * 60_000
/** More bands than this would be hard to tell apart. */
const MOST_SERIES = 12
/** The server uses the same name for all registries beyond its own limit. */
export const OTHERS = 'other'

export type Rates = ReadonlyMap<string, number>

export interface Sample {
  readonly at: number
  /** The rates; undefined while there is no connection. The chart then shows a gap rather than zero. */
  readonly rates: Rates | undefined
}

export function ratesByRegistry(pulls: Iterable<Pull>): Rates {
  const rates = new Map<string, number>()
  for (const pull of pulls) {
    if (hasEnded(pull) || pull.bytesPerSec <= 0) continue
    const registry = registryOf(pull)
    rates.set(registry, (rates.get(registry) ?? 0) + pull.bytesPerSec)
  }
  return rates
}

export function total(rates: Rates | undefined): number {
  let sum = 0
  for (const rate of rates?.values() ?? []) sum += rate
  return sum
}

export interface Happening {
  /** `12 pulls completed` */
  readonly words: string
  /** The search query for these pulls; undefined for the downloaded bytes. */
  readonly query?: string
}

export interface Period {
  /** `last 10 min`, or `since 14:02` */
  readonly words: string
  readonly happenings: readonly Happening[]
}

/** What happened during the period that the server's history covers; undefined if the server does not count pulls and
 * bytes. The server counts attempts, whereas a search finds pulls. If the two numbers differ, the text gives both.
 * `pullCount` returns the number of pulls that match a search. */
export function happened(
  history: ThroughputHistory | undefined,
  now: number,
  pullCount: (query: string) => number,
): Period | undefined {
  if (history?.completed === undefined) return undefined
  const { since, completed, failed, canceled, downloadedBytes } = history
  const queryOf = (status: string) => `status:${status} since:${linkTime(since)}`
  // The server's count lags a few seconds behind the pulls.
  const done = Math.max(completed, pullCount(queryOf('done')))
  const attempts = (counted: number, word: string) => {
    const query = queryOf(word)
    const pulls = pullCount(query)
    const ended = Math.max(counted, pulls)
    const listed = pulls < ended ? ` (${pulls > 0 ? count(pulls, 'pull') : 'none'} listed)` : ''
    return ended > 0 ? [{ words: `${count(ended, 'attempt')} ${word}${listed}`, query }] : []
  }
  return {
    words: periodWords(since, now),
    happenings: [
      { words: `${count(done, 'pull')} completed`, query: queryOf('done') },
      ...attempts(failed, 'failed'),
      ...attempts(canceled, 'cancelled'),
      ...(downloadedBytes > 0 ? [{ words: `${bytes(downloadedBytes)} downloaded` }] : []),
    ],
  }
}

/** The number of minutes that the server's history covers once the server has been running for long enough. */
const FULL_MINUTES = 10

/** `last 10 min`, or `since 14:02` if the history is shorter. */
export function periodWords(since: number, now: number): string {
  const minutes = Math.round((now - since) / 60_000)
  return minutes < FULL_MINUTES ? `since ${timeOfDay(since)}` : `last ${minutes} min`
}

/** The number of bytes delivered by the registries of each line during the period that the server's history covers. A
 * line has no entry if it has no bytes or if the server does not count them. */
export function downloadedBy(
  lines: readonly Series[],
  history: ThroughputHistory | undefined,
): ReadonlyMap<string, number> {
  const own = new Set(lines.map(({ registry }) => registry))
  const sums = new Map<string, number>()
  for (const { registry, downloadedBytes = 0 } of history?.registries ?? []) {
    const line = own.has(registry) ? registry : OTHERS
    if (downloadedBytes > 0) sums.set(line, (sums.get(line) ?? 0) + downloadedBytes)
  }
  return sums
}

/** Appends a sample, and drops samples that are older than the window. */
export function withSample(samples: readonly Sample[], sample: Sample): readonly Sample[] {
  const from = sample.at - WINDOW_MS
  return [...samples.filter(({ at }) => at >= from && at < sample.at), sample]
}

/** The server's history, followed by the page's own samples. */
export function withHistory(
  samples: readonly Sample[],
  { since, stepMs, registries }: ThroughputHistory,
  now: number,
): readonly Sample[] {
  const steps = Math.max(0, ...registries.map(({ bytesPerSec }) => bytesPerSec.length))
  const first = samples.find(({ rates }) => rates !== undefined)?.at ?? now
  const history = Array.from({ length: steps }, (_, step): Sample => {
    const rates = registries.map(line => [line.registry, line.bytesPerSec[step] ?? 0] as const)
    return { at: since + step * stepMs, rates: new Map(rates.filter(([, rate]) => rate > 0)) }
  })
  const kept = history.filter(({ at }) => at < first && at >= now - WINDOW_MS)
  return [...kept, ...samples.filter(({ at }) => at >= first)]
}

export interface Series {
  readonly registry: string
  readonly now: number
  /** One value per sample; null if there was no connection. */
  readonly values: readonly (number | null)[]
}

/**
 * The registries in the chart, in alphabetical order, so that each registry always has the same position. If there are
 * too many registries, those that were the first to serve bytes have bands of their own, and the rest are combined into
 * `other`. The speed does not matter, because a registry must not change its colour when another one becomes faster.
 */
export function series(samples: readonly Sample[]): readonly Series[] {
  const seen = new Set<string>()
  for (const { rates } of samples) for (const registry of rates?.keys() ?? []) seen.add(registry)
  addRegistries(seen)
  const order = [...seen].filter(registry => registry !== OTHERS)
  const own = order.length > MOST_SERIES + 1 ? order.slice(0, MOST_SERIES) : order
  const lines = [...own]
    .sort((a, b) => a.localeCompare(b))
    .map(registry => line(registry, samples, rates => rates.get(registry) ?? 0))
  if (own.length === seen.size) return lines
  const rest = [...seen].filter(registry => !own.includes(registry))
  const sumOfRest = (rates: Rates) => rest.reduce((sum, registry) => sum + (rates.get(registry) ?? 0), 0)
  return [...lines, line(OTHERS, samples, sumOfRest)]
}

function line(registry: string, samples: readonly Sample[], pick: (rates: Rates) => number): Series {
  const values = samples.map(({ rates }) => (rates === undefined ? null : pick(rates)))
  return { registry, now: values.at(-1) ?? 0, values }
}

/** Stacks each line on top of the lines before it. */
export function stack(lines: readonly Series[]): readonly (readonly (number | null)[])[] {
  const below: number[] = []
  return lines.map(({ values }) =>
    values.map((value, at) => {
      if (value === null) return null
      const height = (below[at] ?? 0) + value
      below[at] = height
      return height
    }),
  )
}

/** The colour of a registry. It is grey for registries beyond the limit and for images whose registry is not known
 * yet. */
export function bandColour(registry: string): string {
  return registry === OTHERS || registry === UNKNOWN_REGISTRY
    ? 'var(--fill-grey)'
    : `var(--band-${hueOf(registry)})`
}

/** The time axis is divided into this many steps: ten minutes in steps of five seconds. */
export const PLACES = 120

/** Attempts that failed or were cancelled at about the same time. */
export interface Mark {
  /** The step on the time axis, from 0 to `PLACES`. */
  readonly place: number
  /** When the first of these attempts ended. */
  readonly at: number
  readonly look: 'failed' | 'cancelled'
  /** `library/nginx:1.29 on worker-1: not found` */
  readonly words: readonly string[]
}

export function marks(pulls: Iterable<Pull>, [start, end]: readonly [number, number]): readonly Mark[] {
  const ends = [...pulls].flatMap(pull =>
    [...pull.earlier, ...(pull.status === 'failed' ? [pull] : [])].flatMap(
      ({ completedAt = 0, errorReason }) =>
        completedAt < start || completedAt > end
          ? []
          : {
              place: Math.round((PLACES * (completedAt - start)) / (end - start)),
              at: completedAt,
              reason: errorReason ?? 'unknown',
              words: `${shortName(pull)} on ${pull.nodeName}: ${REASON_WORDS[errorReason ?? 'unknown']}`,
            },
    ),
  )
  return [...groupBy(ends, ({ place }) => `${place}`).values()].map(group => ({
    place: group[0].place,
    at: Math.min(...group.map(({ at }) => at)),
    look: group.every(({ reason }) => reason === 'canceled') ? 'cancelled' : 'failed',
    words: [...new Set(group.map(({ words }) => words))],
  }))
}

/** The marks at a given step of the axis and at the two steps next to it. */
export function marksNear(all: readonly Mark[], place: number): readonly Mark[] {
  return all.filter(mark => Math.abs(mark.place - place) <= 1)
}

/** Their texts. */
export function wordsOf(near: readonly Mark[]): readonly string[] {
  const words = near.flatMap(mark => mark.words)
  const rest = words.length - MOST_WORDS
  return rest > 0 ? [...words.slice(0, MOST_WORDS), `and ${rest} more`] : words
}

const MOST_WORDS = 4

export const CHART_WIDTH = 1000
export const CHART_HEIGHT = 100
/** The shortest period that the axis covers. If the axis always covered ten minutes, the short history of a newly
 * opened page would fill only a small part of it. */
const SHORTEST_MS = 60_000
const LEAST_RATE = 1e6

/** The rate at the top of the chart's scale. */
export function highest(lines: readonly Series[]): number {
  return Math.max(LEAST_RATE, ...(stack(lines).at(-1) ?? []).map(value => value ?? 0)) * 1.1
}

/** The rate that is marked on the chart's scale: a round number (one digit followed by zeros) that lies in the upper
 * half of the chart. */
export function scaleMark(top: number): number {
  const power = 10 ** Math.floor(Math.log10(top))
  return Math.floor(top / power) * power
}

/** The chart's start and end times. */
export function axis(samples: readonly Sample[]): readonly [number, number] {
  const end = samples.at(-1)?.at ?? 0
  return [Math.min(samples[0]?.at ?? 0, end - SHORTEST_MS), end]
}

export interface Reading {
  readonly at: number
  /** The registries that served bytes, fastest first; undefined if there was no connection. */
  readonly rates: readonly (readonly [string, number])[] | undefined
}

/** The sample that covers a position on the time axis, or else the first sample. Positions range from 0 to 1. */
export function reading(samples: readonly Sample[], place: number): Reading | undefined {
  const [start, end] = axis(samples)
  const found = samples.findLast(({ at }) => at <= start + place * (end - start)) ?? samples[0]
  return found && { at: found.at, rates: found.rates && [...found.rates].sort((a, b) => b[1] - a[1]) }
}

/** The rates at a moment. A sample of the server's history covers the time from its `at` to the next sample. The page's
 * own samples are one second apart, and so are moments. */
export function ratesAt(samples: readonly Sample[], at: number): Rates | undefined {
  const [, end] = secondFrom(at)
  return samples.findLast(sample => sample.at <= end)?.rates
}

/** One closed SVG path for each line, in a box of `CHART_WIDTH` by `CHART_HEIGHT`. Gaps in the data, and periods in
 * which no bytes arrive, split a path into several parts. */
export function areas(samples: readonly Sample[], lines: readonly Series[]): readonly string[] {
  const [start, end] = axis(samples)
  const heights = stack(lines)
  const top = highest(lines)
  const x = (at: number) => (((samples[at]?.at ?? start) - start) / (end - start)) * CHART_WIDTH
  const y = (value: number) => CHART_HEIGHT * (1 - value / top)
  const point = (at: number, value: number) => `${x(at).toFixed(1)} ${y(value).toFixed(1)}`
  return heights.map((values, band) =>
    parts(lines[band]?.values ?? [])
      .map(([from, to]) => {
        const indexes = Array.from({ length: to - from }, (_, step) => from + step)
        const upper = indexes.map(at => point(at, values[at] ?? 0))
        const lower = indexes.map(at => point(at, heights[band - 1]?.[at] ?? 0)).reverse()
        return `M${[...upper, ...lower].join('L')}Z`
      })
      .join(''),
  )
}

/** The index ranges to draw, as half-open intervals. Unknown values are excluded, and so is any zero between two other
 * zeros. */
function parts(values: readonly (number | null)[]): readonly (readonly [number, number])[] {
  const found: [number, number][] = []
  const isFlat = (at: number) => (values[at] ?? 0) === 0
  values.forEach((value, at) => {
    const last = found.at(-1)
    if (value === null || (isFlat(at - 1) && isFlat(at) && isFlat(at + 1))) return
    if (last !== undefined && last[1] === at) last[1] = at + 1
    else found.push([at, at + 1])
  })
  return found
}

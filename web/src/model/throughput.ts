/** Bytes per second by registry over the last minutes. */
import type { Pull, ThroughputHistory } from '../wire/wire'
import { bytes, count, duration } from './format'
import { addRegistries, hueOf } from './hues'
import { registryOf, UNKNOWN_REGISTRY } from './images'
import { hasEnded } from './pullState'

export const WINDOW_MS = 10 * 60_000
/** More bands than this would be hard to tell apart. */
const MOST_SERIES = 12
/** The server uses this name too, for the registries beyond its own limit. */
export const OTHERS = 'other'

export type Rates = ReadonlyMap<string, number>

export interface Sample {
  readonly at: number
  /** Missing while there is no connection: the chart then shows a gap instead of zero. */
  readonly rates: Rates | undefined
}

export function ratesByRegistry(pulls: Iterable<Pull>): Rates {
  const rates = new Map<string, number>()
  for (const pull of pulls) {
    if (hasEnded(pull) || pull.bytesPerSec <= 0) continue
    const registry = registryOf(pull.imageRef, pull.registry)
    rates.set(registry, (rates.get(registry) ?? 0) + pull.bytesPerSec)
  }
  return rates
}

export function total(rates: Rates | undefined): number {
  let sum = 0
  for (const rate of rates?.values() ?? []) sum += rate
  return sum
}

/** What happened in the server's history: `last 10 min: 12 pulls completed, 1 attempt failed, 4.2 GB downloaded`. Empty
 * if the server does not count pulls and bytes. */
export function happened(history: ThroughputHistory | undefined, now: number): string {
  if (history?.completed === undefined) return ''
  const { since, completed, failed, canceled, downloadedBytes } = history
  const facts = [
    `${count(completed, 'pull')} completed`,
    failed > 0 && `${count(failed, 'attempt')} failed`,
    canceled > 0 && `${canceled} cancelled`,
    `${bytes(downloadedBytes)} downloaded`,
  ]
  return `last ${duration((now - since) / 1000)}: ${facts.filter(Boolean).join(', ')}`
}

/** Appends a sample, and drops the samples that are older than the window. */
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
 * The registries in the chart, in alphabetical order, so that each always has the same position. If there are too many
 * registries, the first ones that served bytes have separate bands, and the rest are combined into `other`. A registry
 * must not change its colour because another one is faster now.
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

/** The colour of a registry; grey for the registries beyond the limit, and for images not yet known. */
export function bandColour(registry: string): string {
  return registry === OTHERS || registry === UNKNOWN_REGISTRY
    ? 'var(--fill-grey)'
    : `var(--band-${hueOf(registry)})`
}

export const CHART_WIDTH = 1000
export const CHART_HEIGHT = 100
/** The axis covers at least this time. It is not always ten minutes long, because the history of a page that has just
 * been opened would be too narrow. */
const SHORTEST_MS = 60_000
const LEAST_RATE = 1e6

/** The rate at the top of the chart. */
export function highest(lines: readonly Series[]): number {
  return Math.max(LEAST_RATE, ...(stack(lines).at(-1) ?? []).map(value => value ?? 0)) * 1.1
}

/** The rate that marks the scale of the chart: a round number in the upper half, one digit followed by zeros. */
export function scaleMark(top: number): number {
  const power = 10 ** Math.floor(Math.log10(top))
  return Math.floor(top / power) * power
}

/** The first and the last time of the chart. */
export function axis(samples: readonly Sample[]): readonly [number, number] {
  const end = samples.at(-1)?.at ?? 0
  return [Math.min(samples[0]?.at ?? 0, end - SHORTEST_MS), end]
}

export interface Reading {
  readonly at: number
  /** The registries that served bytes, the fastest first; undefined if there was no connection. */
  readonly rates: readonly (readonly [string, number])[] | undefined
}

/** The sample nearest to a position on the time axis; the positions go from 0 to 1. */
export function reading(samples: readonly Sample[], place: number): Reading | undefined {
  const [start, end] = axis(samples)
  const distance = ({ at }: Sample) => Math.abs(at - start - place * (end - start))
  const [first, ...others] = samples
  if (first === undefined) return undefined
  const { at, rates } = others.reduce((best, one) => (distance(one) < distance(best) ? one : best), first)
  return { at, rates: rates && [...rates].sort((a, b) => b[1] - a[1]) }
}

/** One closed SVG path per line, in a box of `CHART_WIDTH` by `CHART_HEIGHT`. A path has several parts if there are
 * gaps or periods without bytes, because the area has no height there. */
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

/** The half-open ranges of the indexes that are drawn. Unknown values are left out, and so are zeros with zeros
 * on both sides. */
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

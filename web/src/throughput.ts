/** PURE. Bytes per second by registry over the last minutes. */
import { registryOf } from './images'
import { hasEnded } from './pullState'
import type { Pull } from './wire'

export const WINDOW_MS = 5 * 60_000
/** More bands than this cannot be told apart. */
const MOST_SERIES = 4
const OTHERS = 'others'

export type Rates = ReadonlyMap<string, number>

export interface Sample {
  readonly at: number
  /** Absent while the stream is away: a gap, not a zero. */
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

/** The samples of the window with one more at its end. */
export function withSample(samples: readonly Sample[], sample: Sample): readonly Sample[] {
  const from = sample.at - WINDOW_MS
  return [...samples.filter(({ at }) => at >= from && at < sample.at), sample]
}

export interface Series {
  readonly registry: string
  readonly now: number
  /** One value per sample; null where the stream was away. */
  readonly values: readonly (number | null)[]
}

/** The busiest registries of the window, the busiest first; what they leave is `others`. */
export function series(samples: readonly Sample[]): readonly Series[] {
  const sums = new Map<string, number>()
  for (const { rates } of samples) {
    for (const [registry, rate] of rates ?? []) sums.set(registry, (sums.get(registry) ?? 0) + rate)
  }
  const order = [...sums]
    .sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]))
    .map(([registry]) => registry)
  const own = order.length > MOST_SERIES + 1 ? order.slice(0, MOST_SERIES) : order
  const lines = own.map(registry => line(registry, samples, rates => rates.get(registry) ?? 0))
  if (own.length === order.length) return lines
  const rest = order.slice(own.length)
  const sumOfRest = (rates: Rates) => rest.reduce((sum, registry) => sum + (rates.get(registry) ?? 0), 0)
  return [...lines, line(OTHERS, samples, sumOfRest)]
}

function line(registry: string, samples: readonly Sample[], pick: (rates: Rates) => number): Series {
  const values = samples.map(({ rates }) => (rates === undefined ? null : pick(rates)))
  return { registry, now: values.at(-1) ?? 0, values }
}

/** Each line on top of the ones before it. */
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

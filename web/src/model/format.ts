/** Formats numbers for display. Units are decimal, like those of registries and the kubelet. */

export interface Quantity {
  readonly value: string
  readonly unit: string
  /** The unit, as a power of 1000: 2 for MB. */
  readonly power: number
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'] as const

/** A number of bytes, with at most three significant digits: `4.2 kB`, `187 MB`, `2.6 GB`. */
export function quantity(bytes: number): Quantity {
  let value = Math.max(0, bytes)
  let unit = 0
  // Otherwise, 999.5 would be displayed as 1000 in the smaller unit.
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000
    unit += 1
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1
  return { value: value.toFixed(digits), unit: UNITS[unit] ?? 'B', power: unit }
}

export function bytes(count: number): string {
  const { value, unit } = quantity(count)
  return `${value} ${unit}`
}

export function rate(bytesPerSec: number): string {
  return `${bytes(bytesPerSec)}/s`
}

/** `3.0 / 5.3 GB`, `31 / 134 MB`: both numbers in the unit of the total. */
export function ofTotal(done: number, total: number): string {
  const whole = quantity(total)
  const scale = 1000 ** whole.power
  const shown = (done / scale).toFixed(whole.value.includes('.') ? 1 : 0)
  // Otherwise, a part that is too small for the total's unit would be shown as 0.
  return Number(shown) === 0 && done > 0 ? `${bytes(done)} / ${bytes(total)}` : `${shown} / ${bytes(total)}`
}

/** A duration in words, rounded: `9 s`, `48 s`, `3 min`, `2 h 5 min`. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  if (whole < 60) return `${whole} s`
  const minutes = Math.floor(whole / 60)
  if (minutes < 60) return `${minutes} min`
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`
  return `${Math.floor(hours / 24)} d`
}

/** A duration formatted like a clock: `6 s`, `1:14`, `1:02:09`. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  return whole < 60 ? `${whole} s` : axisTime(whole)
}

export const ANY_MOMENT = 'any moment'

/** The time left: `any moment`, `48 s`, `1:14`. */
export function soon(seconds: number): string {
  return seconds < 1 ? ANY_MOMENT : clock(seconds)
}

/** Lower bounds below this number of seconds are too low to be useful, so they are not shown. */
export const LEAST_BOUND = 30

/** A lower bound: `> 1:14`; undefined if the bound is too low to be useful. */
export function boundWords(seconds: number): string | undefined {
  return seconds < LEAST_BOUND ? undefined : `> ${clock(seconds)}`
}

/** `0:30`, `1:14`, `1:02:09`. */
export function axisTime(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  const two = (n: number) => String(n).padStart(2, '0')
  const hours = Math.floor(whole / 3600)
  const minutes = Math.floor(whole / 60) % 60
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`
}

/** A whole percentage, rounded down so that 100 % is shown only when the pull is complete. */
export function percent(value: number | undefined): string {
  if (value === undefined) return '–'
  return `${Math.floor(Math.min(100, Math.max(0, value)))} %`
}

/** `2.9×`, `12×`. */
export function times(factor: number): string {
  return `${factor.toFixed(factor < 9.95 ? 1 : 0)}×`
}

/** Joins these parts of a text. Parts that are false, undefined or empty are omitted. */
export function joined(separator: string, ...parts: readonly (string | false | undefined)[]): string {
  return parts.filter(Boolean).join(separator)
}

/** `a, b, c and 2 more` */
export function listed(names: readonly string[], most: number): string {
  const rest = names.length - most
  return names.slice(0, most).join(', ') + (rest > 0 ? ` and ${rest} more` : '')
}

/** `3 pods`, `1 pod`. */
export function count(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`
}

const TIME_OF_DAY = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' })

/** `14:02` in the reader's time zone. */
export function timeOfDay(at: number): string {
  return TIME_OF_DAY.format(at)
}

/** `14:02:05` in the reader's time zone. */
export function secondOfDay(at: number): string {
  return exactTime(at).split(', ').at(-1) ?? ''
}

/** `5c0f3e1d77ab` for `sha256:5c0f3e1d77ab…`. */
export function shortDigest(digest: string): string {
  const hex = digest.slice(digest.indexOf(':') + 1)
  return hex.slice(0, 12)
}

/** `just now`, `40 s ago`, `4 min ago`. */
export function ago(seconds: number): string {
  return seconds < 2 ? 'just now' : `${duration(seconds)} ago`
}

const EXACT_TIME = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' })

/** Date and time to the second in the reader's time zone. */
export function exactTime(at: number): string {
  return EXACT_TIME.format(at)
}

/** The maximum length of the last part of a name, which is always visible. */
const LONGEST_END = 12

/** Splits a name before its distinguishing last part: `cart-7d9c5bd8f4` and `-k2x9p`. */
export function splitName(name: string): readonly [string, string] {
  // A short name is not split.
  if (name.length <= LONGEST_END) return ['', name]
  const at = Math.max(name.lastIndexOf('-'), name.length - LONGEST_END)
  return [name.slice(0, at), name.slice(at)]
}

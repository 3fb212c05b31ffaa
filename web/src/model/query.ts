/** The search box accepts free text and `key:value,value` tokens. Only the text of a query is stored. */

/** The keys. The value of `at:` is a point in time, such as `14:05:30`, and the value of `since:` is the start of a
 * period, such as `10m`. The values of all other keys are compared with the properties of a row. */
export const KEYS = ['image', 'node', 'ns', 'pod', 'status', 'registry', 'limit', 'at', 'since'] as const
export type Key = (typeof KEYS)[number]

/** The values of `status:`. */
export const STATUS_WORDS: readonly string[] = [
  'queued',
  'resolving',
  'downloading',
  'stalled',
  'extracting',
  'slow',
  'failing',
  'failed',
  'cancelled',
  'unobserved',
  'done',
  'started',
]

export interface Token {
  readonly key: Key
  readonly values: readonly string[]
}

export interface Query {
  readonly tokens: readonly Token[]
  readonly words: readonly string[]
  /** A pull matches only if at least one of its attempts was running during every one of these periods. */
  readonly windows: readonly Span[]
  /** The points in time given by `at:`. */
  readonly moments: readonly number[]
}

/** The start and the end of a period. For an earlier attempt, the third element is the `status:` value of its
 * outcome. */
export type Span = readonly [number, number, string?]

/** The searchable values of a row, in lower case; none for the keys that filter by time. */
export type Facts = Readonly<Partial<Record<Key, readonly string[]>>> & {
  /** The periods in which the row's attempts were running. The end of a running attempt is `Infinity`. */
  readonly spans: readonly Span[]
}

export function parseToken(word: string): Token | undefined {
  const lower = word.toLowerCase()
  const key = KEYS.find(known => lower.startsWith(`${known}:`))
  return (
    key && {
      key,
      values: lower
        .slice(key.length + 1)
        .split(',')
        .filter(Boolean),
    }
  )
}

export function parseQuery(text: string, now = Date.now()): Query {
  const tokens: Token[] = []
  const words: string[] = []
  const windows: Span[] = []
  const moments: number[] = []
  for (const word of splitWords(text)) {
    const token = parseToken(word)
    if (token === undefined) words.push(word.toLowerCase())
    else if (token.key === 'since') windows.push(...timesOf(token, now).map((from): Span => [from, Infinity]))
    else if (token.key === 'at') moments.push(...timesOf(token, now))
    else if (token.values.length > 0) tokens.push(token)
  }
  windows.push(...moments.map(secondFrom))
  return { tokens, words, windows, moments }
}

/** A moment is a whole second, because times of day and links do not contain fractions of a second. */
export function secondFrom(at: number): Span {
  return [at, at + 999]
}

export function overlaps([start, end]: Span, [from, to]: Span): boolean {
  return start <= to && end >= from
}

const HOUR_MS = 3_600_000

/** The times in a token: `10m` is ten minutes ago. `14:05:30` is the last such time of day in the reader's time zone,
 * whereas `2026-12-01T14:05:30Z` is the same time for readers in all time zones. Incomplete and invalid values are
 * ignored. */
function timesOf({ values }: Token, now: number): readonly number[] {
  return values.map(value => timeOf(value, now)).filter(at => at > 0)
}

function timeOf(value: string, now: number): number {
  if (/^\d+m$/.test(value)) return now - Number.parseInt(value, 10) * 60_000
  if (/^\d{4}-/.test(value)) return Date.parse(value.toUpperCase())
  const [hours = 0, minutes = Number.NaN, seconds = 0] = value.split(':').map(Number)
  const at = new Date(now).setHours(hours, minutes, seconds, 0)
  return at > now + HOUR_MS ? at - 24 * HOUR_MS : at
}

/** Returns a time as it appears in links: `2026-12-01T14:05:30Z`. */
export function linkTime(at: number): string {
  return new Date(at).toISOString().replace(/\.\d+/, '')
}

/** Returns the query with each time in the form used in links. */
export function withLinkTimes(text: string, now: number): string {
  const words = splitWords(text).map(word => {
    const token = parseToken(word)
    return token?.key === 'at' || token?.key === 'since'
      ? tokenText({ key: token.key, values: timesOf(token, now).map(linkTime) })
      : word
  })
  return words.join(' ')
}

export function splitWords(text: string): readonly string[] {
  return text.split(/\s+/).filter(Boolean)
}

/** All tokens and all words of the query must match. A token matches if one of its values matches. If the query
 * specifies a period, an attempt must have been running during that period. For `status:`, earlier attempts outside the
 * period are ignored. */
export function matches(query: Query, facts: Facts): boolean {
  const spans = facts.spans.filter(span => query.windows.every(window => overlaps(span, window)))
  const ends = spans.map(([, , status]) => status)
  return (
    (query.windows.length === 0 || spans.length > 0) &&
    query.tokens.every(({ key, values }) =>
      values.some(value =>
        key === 'status'
          ? facts.status?.includes(value) || ends.includes(value)
          : facts[key]?.some(fact => fact.includes(value)),
      ),
    ) &&
    query.words.every(word => KEYS.some(key => facts[key]?.some(fact => fact.includes(word))))
  )
}

/** The rows that match the query. Without a query, the properties of the rows are not computed. */
export function filtered<T>(rows: readonly T[], query: Query, facts: (row: T) => Facts): T[] {
  const isEmpty = query.tokens.length + query.words.length + query.windows.length === 0
  return isEmpty ? [...rows] : rows.filter(row => matches(query, facts(row)))
}

export function tokenText({ key, values }: Token): string {
  return `${key}:${values.join(',')}`
}

/** The values of a key in a query. */
export function valuesOf(text: string, key: Key): readonly string[] {
  return parseQuery(text).tokens.flatMap(token => (token.key === key ? token.values : []))
}

/** Replaces the values of a key in a query, leaving the rest of the query unchanged. */
export function withValues(text: string, key: Key, values: readonly string[]): string {
  const rest = splitWords(text).filter(word => parseToken(word)?.key !== key)
  if (values.length > 0) rest.push(tokenText({ key, values }))
  return rest.join(' ')
}

/** The keys that describe single pulls. In a list of nodes or images, such a filter hides most rows. */
const OF_PULLS: readonly (Key | undefined)[] = ['status', 'limit', 'at']

/** Returns the query without the words whose keys describe single pulls. */
export function withoutPullFilters(text: string): string {
  return splitWords(text)
    .filter(word => !OF_PULLS.includes(parseToken(word)?.key))
    .join(' ')
}

export function toggleValue(text: string, key: Key, value: string): string {
  const now = valuesOf(text, key)
  return withValues(text, key, now.includes(value) ? now.filter(v => v !== value) : [...now, value])
}

export interface Suggestion {
  /** The word that replaces the typed word. */
  readonly word: string
  readonly hint: string
  /** Whether the word is complete. A suggested key, such as `node:`, is incomplete because it still needs a value. */
  readonly complete: boolean
}

const HINTS: Readonly<Record<Key, string>> = {
  image: 'part of a reference',
  node: 'a node',
  ns: 'a namespace',
  pod: 'a waiting pod',
  status: 'queued, failing, slow, cancelled…',
  registry: 'a registry host',
  limit: 'disk, layer, network…',
  at: '14:05:30',
  since: '10m',
}

/** The `status:` values that have no tile. They are suggested before anything is typed, even if they currently match no
 * pull. */
const PROBLEMS: readonly string[] = ['stalled', 'slow', 'cancelled', 'unobserved']
const MOST_SHOWN = 100

/** The values that currently exist; for `status:`, the values that match at least one pull. */
export type Known = Readonly<Record<Key, ReadonlySet<string>>>

export interface Suggestions {
  readonly shown: readonly Suggestion[]
  /** How many suggestions are not shown. */
  readonly more: number
}

/** Suggests completions for the word at the caret. */
export function suggest(word: string, known: Known): Suggestions {
  const token = parseToken(word)
  if (token !== undefined) {
    const given = word.slice(word.indexOf(':') + 1).split(',')
    const part = (given.pop() ?? '').toLowerCase()
    const values = ranked(token.key, known, part).filter(value => !given.includes(value))
    return first(values.map(value => offer(token.key, ...given, value)))
  }
  const part = word.toLowerCase()
  const keys = KEYS.filter(key => key.startsWith(part)).map(key => ({
    word: `${key}:`,
    hint: HINTS[key],
    complete: false,
  }))
  if (part === '') {
    const isKnown = (value: string) => known.status.has(value)
    const problems = PROBLEMS.map(value => ({
      ...offer('status', value),
      hint: isKnown(value) ? '' : 'none now',
    }))
    const count = KEYS.reduce((sum, key) => sum + known[key].size, 0)
    return { shown: [...keys, ...problems], more: count - PROBLEMS.filter(isKnown).length }
  }
  // Suggestions for keys with few possible values, such as `limit`, come first.
  const values = [...KEYS].reverse().flatMap(key => ranked(key, known, part).map(value => offer(key, value)))
  return first([...keys, ...values])
}

function offer(key: Key, ...values: readonly string[]): Suggestion {
  return { word: tokenText({ key, values }), hint: '', complete: true }
}

function first(all: readonly Suggestion[]): Suggestions {
  return { shown: all.slice(0, MOST_SHOWN), more: Math.max(0, all.length - MOST_SHOWN) }
}

function ranked(key: Key, known: Known, part: string): readonly string[] {
  const starting: string[] = []
  const containing: string[] = []
  for (const value of key === 'status' ? STATUS_WORDS : known[key]) {
    const at = value.toLowerCase().indexOf(part)
    if (at === 0) starting.push(value)
    else if (at > 0) containing.push(value)
  }
  return [...starting.sort(), ...containing.sort()]
}

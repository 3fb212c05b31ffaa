/** The search box: free words and `key:value,value` tokens. A query is stored only as its text. */

export const KEYS = ['image', 'node', 'ns', 'pod', 'status', 'registry', 'limit'] as const
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
]

export interface Token {
  readonly key: Key
  readonly values: readonly string[]
}

export interface Query {
  readonly tokens: readonly Token[]
  readonly words: readonly string[]
}

/** The lower-case values of a row that a search looks at. */
export type Facts = Readonly<Record<Key, readonly string[]>>

const TOKEN = /^(image|node|ns|pod|status|registry|limit):(.*)$/i

export function parseToken(word: string): Token | undefined {
  const found = TOKEN.exec(word)
  const key = KEYS.find(known => known === found?.[1]?.toLowerCase())
  if (key === undefined) return undefined
  const values = (found?.[2] ?? '').toLowerCase().split(',').filter(Boolean)
  return { key, values }
}

export function parseQuery(text: string): Query {
  const tokens: Token[] = []
  const words: string[] = []
  for (const word of splitWords(text)) {
    const token = parseToken(word)
    if (token === undefined) words.push(word.toLowerCase())
    else if (token.values.length > 0) tokens.push(token)
  }
  return { tokens, words }
}

export function splitWords(text: string): readonly string[] {
  return text.split(/\s+/).filter(Boolean)
}

/** Every token and every word must match. A token matches if one of its values does. */
export function matches(query: Query, facts: Facts): boolean {
  return (
    query.tokens.every(({ key, values }) =>
      values.some(value =>
        facts[key].some(fact => (key === 'status' ? fact === value : fact.includes(value))),
      ),
    ) && query.words.every(word => KEYS.some(key => facts[key].some(fact => fact.includes(word))))
  )
}

export function isEmpty(query: Query): boolean {
  return query.tokens.length === 0 && query.words.length === 0
}

export function tokenText({ key, values }: Token): string {
  return `${key}:${values.join(',')}`
}

/** The values that a query contains for a key. */
export function valuesOf(text: string, key: Key): readonly string[] {
  return parseQuery(text).tokens.flatMap(token => (token.key === key ? token.values : []))
}

/** Replaces the values of the key in a query; the rest of the query is unchanged. */
export function withValues(text: string, key: Key, values: readonly string[]): string {
  const rest = splitWords(text).filter(word => parseToken(word)?.key !== key)
  if (values.length > 0) rest.push(tokenText({ key, values }))
  return rest.join(' ')
}

export function toggleValue(text: string, key: Key, value: string): string {
  const now = valuesOf(text, key)
  return withValues(text, key, now.includes(value) ? now.filter(v => v !== value) : [...now, value])
}

export interface Suggestion {
  /** The word that replaces the one being typed. */
  readonly word: string
  readonly hint: string
  /** A key still needs its value, so the caret is placed behind it. */
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
}

/** The values of `status:` that no tile shows; they are suggested before anything is typed. */
const PROBLEMS: readonly string[] = ['stalled', 'slow', 'cancelled', 'unobserved']
const MOST_SHOWN = 100

/** The values that exist now; for `status:`, those that match a pull. */
export type Known = Readonly<Record<Key, ReadonlySet<string>>>

export interface Suggestions {
  readonly shown: readonly Suggestion[]
  /** How many suggestions are not shown. */
  readonly more: number
}

/** Completions of the word at the caret. */
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
    const problems = PROBLEMS.filter(value => known.status.has(value))
    const count = KEYS.reduce((sum, key) => sum + known[key].size, 0)
    return {
      shown: [...keys, ...problems.map(value => offer('status', value))],
      more: count - problems.length,
    }
  }
  // The keys with the fewest values are first.
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

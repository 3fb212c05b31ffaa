/** Type-checked access to the fields of a JSON object, using the interfaces generated from the server's models. */
import type { Time } from './generated'

export class WireError extends Error {
  override readonly name = 'WireError'
}

/** The names of the fields of `T` that have the type `V`. A caller therefore cannot access an unknown field or read a
 * field as the wrong type. */
type KeysOf<T, V> = { [K in keyof T]-?: [NonNullable<T[K]>] extends [V] ? K : never }[keyof T] & string

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export class Reader<T> {
  readonly #fields: Readonly<Record<string, unknown>>

  /** Throws a `WireError` that mentions `what` if the value is not an object. */
  constructor(value: unknown, what: string) {
    if (!isObject(value)) throw new WireError(`${what}: expected an object`)
    this.#fields = value
  }

  text(key: KeysOf<T, string>): string {
    const value = this.#fields[key]
    if (typeof value !== 'string') throw new WireError(`${key}: expected text`)
    return value
  }

  optionalText(key: KeysOf<T, string>): string | undefined {
    const value = this.#fields[key]
    return typeof value === 'string' && value !== '' ? value : undefined
  }

  /** Returns a number, or 0 if the field is missing or not finite. */
  amount(key: KeysOf<T, number>): number {
    return this.optionalAmount(key) ?? 0
  }

  optionalAmount(key: KeysOf<T, number>): number | undefined {
    const value = this.#fields[key]
    return typeof value === 'number' && Number.isFinite(value) ? value : undefined
  }

  flag(key: KeysOf<T, boolean>): boolean {
    return this.#fields[key] === true
  }

  /** Milliseconds since 1970. */
  time(key: KeysOf<T, Time>): number {
    const found = this.optionalTime(key)
    if (found === undefined) throw new WireError(`${key}: expected an RFC 3339 time`)
    return found
  }

  optionalTime(key: KeysOf<T, Time>): number | undefined {
    const value = this.#fields[key]
    if (typeof value !== 'string') return undefined
    const at = Date.parse(value)
    return Number.isNaN(at) ? undefined : at
  }

  oneOf<W extends string>(key: KeysOf<T, W>, known: readonly W[]): W | undefined {
    const value = this.#fields[key]
    return known.find(word => word === value)
  }

  /** Returns the parsed elements of an array; undefined if the field is missing. */
  list<K extends KeysOf<T, readonly unknown[]>, P>(
    key: K,
    parse: (value: unknown) => P,
  ): readonly P[] | undefined {
    const value = this.#fields[key]
    if (value === undefined || value === null) return undefined
    if (!Array.isArray(value)) throw new WireError(`${key}: expected an array`)
    return value.map(parse)
  }

  /** Returns the finite numbers of a nested object, keyed by name. */
  numbers(key: keyof T & string): Readonly<Record<string, number>> {
    const value = this.#fields[key]
    const entries = Object.entries(isObject(value) ? value : {})
    return Object.fromEntries(entries.filter(([, number]) => Number.isFinite(number))) as Record<
      string,
      number
    >
  }

  /** Returns a nested object; undefined if the field is missing or not an object. */
  part<K extends keyof T & string>(key: K): Reader<NonNullable<T[K]>> | undefined {
    const value = this.#fields[key]
    return isObject(value) ? new Reader(value, key) : undefined
  }

  /** The unvalidated value from the JSON, for callers that validate it themselves. */
  raw(key: keyof T & string): unknown {
    return this.#fields[key]
  }
}

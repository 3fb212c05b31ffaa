import { joined } from './model/format'

/** Joins class names, skipping those that do not apply. */
export function classes(...names: readonly (string | false | undefined)[]): string {
  return joined(' ', ...names)
}

/** Assigns a colour to each registry. The colours depend only on the names, so they are the same after a reload and
 * for all users. */

/** The number of colours. `styles/tokens.css` defines the same number of `--band-…` colours. */
export const HUES = 12

/** Well-known registries, each with its own colour. All other registries share the remaining colours. */
const KNOWN = ['docker.io', 'ghcr.io', 'quay.io', 'registry.k8s.io']
const REST = HUES - KNOWN.length

/** The registries that this page has shown so far. An idle registry keeps its colour. */
const shown = new Set<string>()
let hues: ReadonlyMap<string, number> = new Map()

/** Assigns a colour to each of these registries that does not have one yet. */
export function addRegistries(registries: Iterable<string>): void {
  const before = shown.size
  for (const registry of registries) shown.add(registry)
  if (shown.size > before) hues = huesOf(shown)
}

/** Returns the index of the registry's colour. */
export function hueOf(registry: string): number {
  addRegistries([registry])
  return hues.get(registry) ?? 0
}

/**
 * Returns the colour of each registry, regardless of the order in which the registries are given. The colour is
 * computed from the registry's name. If several names map to the same colour, the first name in alphabetical order gets
 * it, and each other name gets the next free colour. Registries share a colour only when all colours are taken.
 */
export function huesOf(registries: Iterable<string>): ReadonlyMap<string, number> {
  const found = new Map(KNOWN.map((registry, hue) => [registry, hue]))
  const used = new Set<number>()
  const take = (registry: string, hue: number) => {
    used.add(hue)
    found.set(registry, hue)
  }
  const others = [...registries].filter(registry => !KNOWN.includes(registry)).sort()
  for (const registry of others) if (!used.has(hue(registry))) take(registry, hue(registry))
  for (const registry of others) {
    if (found.has(registry)) continue
    const next = Array.from({ length: REST }, (_, step) => hue(registry, step))
    take(registry, next.find(one => !used.has(one)) ?? hue(registry))
  }
  return found
}

/** The colour computed from the name, shifted by `step` positions in the palette. */
function hue(registry: string, step = 0): number {
  let sum = 7
  for (const letter of registry) sum = (sum * 161 + (letter.codePointAt(0) ?? 0)) % 65_521
  return KNOWN.length + ((sum + step) % REST)
}

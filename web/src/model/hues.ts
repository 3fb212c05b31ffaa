/** One fixed colour for each registry, regardless of its rank. */

/** `styles/tokens.css` defines the same number of `--band-…` colours. */
export const HUES = 8

/** Well-known registries, each with its own colour. All other registries share the remaining colours. */
const KNOWN = ['docker.io', 'ghcr.io', 'quay.io', 'registry.k8s.io']
const REST = HUES - KNOWN.length

const taken = new Map<string, number>()

/** Returns the number of the registry's colour, which never changes. A colour is shared only when all are taken. */
export function hueOf(registry: string): number {
  const own = KNOWN.indexOf(registry)
  if (own >= 0) return own
  const hue = taken.get(registry) ?? freeHue(hash(registry))
  taken.set(registry, hue)
  return hue
}

/** The preferred colour, or the next one that no registry has. */
function freeHue(wanted: number): number {
  const used = new Set(taken.values())
  const hues = Array.from({ length: REST }, (_, step) => KNOWN.length + ((wanted + step) % REST))
  return hues.find(hue => !used.has(hue)) ?? KNOWN.length + wanted
}

function hash(text: string): number {
  let sum = 7
  for (const letter of text) sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) % 65_521
  return sum % REST
}

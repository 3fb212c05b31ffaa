/** Groups of failures with the same cause: one image on several nodes, or many images from one registry. */
import type { ErrorReason, Pull } from '../wire/wire'
import { registryOf } from './images'

export interface FailureGroup {
  readonly key: string
  readonly pulls: readonly [Pull, ...Pull[]]
  /** Set if the group has many images, all from this registry. */
  readonly registry: string | undefined
}

/** Causes that lie with a registry or the network, not with the image. */
const REGISTRY_CAUSES: readonly ErrorReason[] = [
  'unauthorized',
  'rate_limited',
  'timeout',
  'network',
  'tls',
  'server_error',
]
/** If at least this many images fail with the same cause, the registry is shown as the problem. */
const MANY_IMAGES = 4

export function failureGroups(pulls: readonly Pull[]): readonly FailureGroup[] {
  const byRegistry = groupBy(pulls, pull => `${registryOf(pull.imageRef, pull.registry)} ${reasonOf(pull)}`)
  return [...byRegistry.values()].flatMap((ofRegistry): FailureGroup[] => {
    const byImage = groupBy(ofRegistry, ({ imageRef }) => imageRef)
    const [first] = ofRegistry
    const registry = registryOf(first.imageRef, first.registry)
    if (byImage.size >= MANY_IMAGES && REGISTRY_CAUSES.includes(reasonOf(first))) {
      return [{ key: `failed/${registry}/${reasonOf(first)}`, pulls: ofRegistry, registry }]
    }
    return [...byImage].map(([imageRef, ofImage]) => ({
      key: `failed/${imageRef}/${reasonOf(first)}`,
      pulls: ofImage,
      registry: undefined,
    }))
  })
}

export const reasonOf = ({ errorReason }: Pull): ErrorReason => errorReason ?? 'unknown'

/** The key of a row with several pulls: failures, or completed pulls of one image on one node. */
export function isGroupKey(key: string): boolean {
  return /^(failed|done)\//.test(key)
}

export function groupBy<T>(all: readonly T[], key: (one: T) => string): ReadonlyMap<string, [T, ...T[]]> {
  const groups = new Map<string, [T, ...T[]]>()
  for (const one of all) {
    const group = groups.get(key(one))
    if (group === undefined) groups.set(key(one), [one])
    else group.push(one)
  }
  return groups
}

/** Problems that somebody has to fix are listed before those that may resolve themselves. */
const SEVERITY: readonly ErrorReason[] = [
  'unauthorized',
  'not_found',
  'invalid_reference',
  'tls',
  'disk_full',
  'rate_limited',
  'server_error',
  'network',
  'timeout',
  'unknown',
  'canceled',
]

export function severity(pull: Pull): number {
  return SEVERITY.indexOf(reasonOf(pull))
}

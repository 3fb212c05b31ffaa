/** Groups failures with the same cause: those of one image on several nodes, or of many images from one registry. */
import type { ErrorReason, PodRef, Pull } from '../wire/wire'
import { clock, duration, joined, timeOfDay } from './format'
import { registryOf } from './images'
import { RETRY_QUEUED, stateWord } from './pullState'
import type { Context } from './standing'

export interface FailureGroup {
  readonly key: string
  readonly pulls: readonly [Pull, ...Pull[]]
  /** The registry, if the group consists of many images from a single registry. */
  readonly registry: string | undefined
}

/** Causes that lie with a registry or the network rather than with the image. */
const REGISTRY_CAUSES: readonly ErrorReason[] = [
  'unauthorized',
  'rate_limited',
  'timeout',
  'network',
  'tls',
  'server_error',
]
/** If at least this many images fail with the same cause, the registry is reported as the problem. */
const MANY_IMAGES = 4

export function failureGroups(pulls: readonly Pull[]): readonly FailureGroup[] {
  const byRegistry = groupBy(pulls, pull => `${registryOf(pull)} ${reasonOf(pull)}`)
  return [...byRegistry.values()].flatMap((ofRegistry): FailureGroup[] => {
    const byImage = groupBy(ofRegistry, ({ imageRef }) => imageRef)
    const [first] = ofRegistry
    const registry = registryOf(first)
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

/** Why the last attempt failed. */
export const reasonOf = ({ errorReason, earlier }: Pull): ErrorReason =>
  errorReason ?? earlier.at(-1)?.errorReason ?? 'unknown'

export const isCancelled = ({ errorReason }: Pick<Pull, 'errorReason'>): boolean => errorReason === 'canceled'

/** When the first of these pulls began to fail; undefined if unknown. */
export function failingSince(pulls: readonly Pull[]): number | undefined {
  return pulls.flatMap(pull => pull.failingSince ?? []).sort((a, b) => a - b)[0]
}

/** Returns these pulls and the failing pulls of the same images for the same owners on other nodes. A pod may have been
 * replaced by one on a different node. */
export function failingAnywhere(pulls: readonly Pull[], { failing }: Context): readonly Pull[] {
  const others = pulls.flatMap(pull => {
    const owners = ownersOf(pull)
    return (failing.get(pull.imageRef) ?? []).filter(other =>
      ownersOf(other).some(one => owners.includes(one)),
    )
  })
  return [...new Set([...pulls, ...others])]
}

/** The owners of the pods that are or were waiting for a pull. A pod without an owner counts as its own owner. */
export function ownersOf({ pods, waited }: Pull): readonly string[] {
  return [...pods, ...waited].map(ownerOf)
}

export const ownerOf = ({
  namespace,
  owner,
  podName,
}: Pick<PodRef, 'namespace' | 'owner' | 'podName'>): string => `${namespace} ${owner ?? podName}`

/** `failing for 12 min, since 20:03 (on 3 nodes), on worker-2 since 20:10`; empty if the time is unknown. */
export function failingWords(pulls: readonly Pull[], context: Context, now: number): string {
  const all = failingAnywhere(pulls, context)
  const since = failingSince(all)
  if (since === undefined) return ''
  const nodes = nodeNames(all)
  const [node, ...rest] = nodeNames(pulls)
  const here = failingSince(pulls) ?? since
  return joined(
    ', ',
    `failing for ${duration((now - since) / 1000)}`,
    `since ${timeOfDay(since)}${nodes.length > 1 ? ` (on ${nodes.length} nodes)` : ''}`,
    rest.length === 0 && timeOfDay(here) !== timeOfDay(since) && `on ${node} since ${timeOfDay(here)}`,
  )
}

export function nodeNames(pulls: readonly Pull[]): readonly string[] {
  return [...new Set(pulls.map(({ nodeName }) => nodeName))]
}

export function imageCount(pulls: readonly Pull[]): number {
  return new Set(pulls.map(({ imageRef }) => imageRef)).size
}

/** The pull with the earliest retry; undefined if no retry is expected. */
export function firstRetry(pulls: readonly Pull[]): Pull | undefined {
  const retried = pulls.filter(({ nextRetryAt }) => nextRetryAt !== undefined)
  return retried.sort((a, b) => (a.nextRetryAt ?? 0) - (b.nextRetryAt ?? 0))[0]
}

const ABOUT_SECONDS = 10

/** `Attempt 5 failed; attempt 6 in about 40 s`, or only the first part if no retry is expected. While an attempt is
 * running: `Attempt 6 is running`. */
export function attemptWords(pull: Pull, now: number): string {
  if (pull.status !== 'failed')
    return `Attempt ${pull.attempt} is ${stateWord(pull) === RETRY_QUEUED ? 'queued' : 'running'}`
  const next = retryWords(pull, now, `attempt ${pull.attempt + 1}`)
  return `Attempt ${pull.attempt} failed${next && `; ${next}`}`
}

/** `retry in about 40 s`. Empty if no retry is expected. The server estimates the time of a retry to within 10 s. */
export function retryWords(pull: Pick<Pull, 'nextRetryAt'> | undefined, now: number, what = 'retry'): string {
  if (pull?.nextRetryAt === undefined) return ''
  const left = (pull.nextRetryAt - now) / 1000
  if (left < ABOUT_SECONDS / 2) return `${what} due`
  return `${what} in about ${clock(Math.round(left / ABOUT_SECONDS) * ABOUT_SECONDS)}`
}

/** Whether this is the key of a row that shows several failures, or several completed pulls of one image on one
 * node. */
export function isGroupKey(key: string): boolean {
  return /^(failed|done)\//.test(key)
}

export function groupBy<T>(all: Iterable<T>, key: (one: T) => string): ReadonlyMap<string, [T, ...T[]]> {
  const groups = new Map<string, [T, ...T[]]>()
  for (const one of all) {
    const group = groups.get(key(one))
    if (group === undefined) groups.set(key(one), [one])
    else group.push(one)
  }
  return groups
}

/** The reasons in words. Problems that somebody has to fix come before those that may resolve themselves. */
export const REASON_WORDS: Readonly<Record<ErrorReason, string>> = {
  unauthorized: 'unauthorized',
  not_found: 'not found',
  invalid_reference: 'not a valid reference',
  tls: 'certificate not trusted',
  disk_full: 'disk full',
  rate_limited: 'rate limited',
  server_error: 'the registry failed',
  network: 'network error',
  timeout: 'timed out',
  unknown: 'unknown error',
  canceled: 'cancelled',
}

const LONGEST_CAUSE = 48

/** Why an attempt failed, in a few words. If the reason is unknown, this is the innermost cause in the error text:
 * `containerd restarted during the pull`. */
export function causeWords({ errorReason = 'unknown', error }: Pick<Pull, 'errorReason' | 'error'>): string {
  const cause = error?.split('\n', 1)[0]?.split(': ').at(-1) ?? ''
  const isShown = errorReason === 'unknown' && cause !== '' && cause.length <= LONGEST_CAUSE
  return isShown ? cause : REASON_WORDS[errorReason]
}

/** Why the last attempt of a pull failed. */
export function reasonWords(pull: Pull): string {
  return causeWords(pull.errorReason === undefined ? (pull.earlier.at(-1) ?? pull) : pull)
}

const BY_SEVERITY = Object.keys(REASON_WORDS)

export function severity(pull: Pull): number {
  return BY_SEVERITY.indexOf(reasonOf(pull))
}

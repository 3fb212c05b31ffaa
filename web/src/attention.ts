/** PURE. What is wrong now, in plain words, and what to do about it. */
import { count, duration, percent, rate, timeOfDay } from './format'
import { isUnknown, registryOf } from './images'
import { hasEnded, pullState } from './pullState'
import type { ClusterNode, ErrorReason, Pull } from './wire'

export interface Concern {
  readonly key: string
  readonly kind: 'failed' | 'stalled' | 'lost'
  /** An image reference or a node's name; stands out. */
  readonly subject: string
  /** Goes on after the subject. */
  readonly what: string
  readonly advice: string
  /** The next try, in seconds from now; absent when none is expected. */
  readonly retrySeconds: number | undefined
  /** A search that shows the rows that are meant. */
  readonly query: string
  /** The pull that tells most about it. */
  readonly pullId: string | undefined
}

const REASON_WORDS: Readonly<Record<ErrorReason, string>> = {
  not_found: 'not found',
  unauthorized: 'unauthorized',
  rate_limited: 'rate limited',
  timeout: 'timed out',
  network: 'network error',
  tls: 'certificate not trusted',
  disk_full: 'disk full',
  invalid_reference: 'not a valid reference',
  canceled: 'cancelled',
  server_error: 'the registry failed',
  unknown: 'unknown error',
}

/** A failure that nobody waits for any more is news for this long. */
const NEWS_MS = 5 * 60_000
const MOST_NAMES = 3

export function concerns(
  pulls: Iterable<Pull>,
  nodes: readonly ClusterNode[],
  now: number,
): readonly Concern[] {
  const failed: Pull[] = []
  const stalled: Pull[] = []
  const moving = new Map<string, number>()
  const still = new Map<string, number>()
  for (const pull of pulls) {
    if (pull.status === 'failed' && matters(pull, now)) failed.push(pull)
    if (hasEnded(pull)) continue
    const registry = registryOf(pull.imageRef, pull.registry)
    if (pullState(pull) === 'stalled') {
      stalled.push(pull)
      still.set(registry, (still.get(registry) ?? 0) + 1)
    } else if (pull.bytesPerSec > 0) moving.set(registry, (moving.get(registry) ?? 0) + pull.bytesPerSec)
  }
  const silent = nodes.filter(({ state }) => state === 'lost')
  return [
    ...grouped(failed, ({ imageRef, errorReason }) => `${imageRef} ${errorReason}`).map(group =>
      failure(group, now),
    ),
    ...grouped(stalled, ({ imageRef }) => imageRef).map(group => stall(group, moving, still, now)),
    ...(silent.length > 0 ? [silence(silent, now)] : []),
  ]
}

/** Somebody waits for it, or it just happened. Cancelling is what people and the kubelet do on purpose. */
function matters(pull: Pull, now: number): boolean {
  if (pull.pods.length > 0 || pull.nextRetryAt !== undefined) return true
  return pull.errorReason !== 'canceled' && now - (pull.completedAt ?? now) < NEWS_MS
}

type Group = readonly [Pull, ...Pull[]]

function grouped(pulls: readonly Pull[], key: (pull: Pull) => string): readonly Group[] {
  const groups = new Map<string, [Pull, ...Pull[]]>()
  for (const pull of pulls) {
    const group = groups.get(key(pull))
    if (group === undefined) groups.set(key(pull), [pull])
    else group.push(pull)
  }
  return [...groups.values()].sort((a, b) => podCount(b) - podCount(a) || b.length - a.length)
}

function podCount(pulls: readonly Pull[]): number {
  return new Set(pulls.flatMap(({ pods }) => pods.map(({ namespace, podName }) => `${namespace}/${podName}`)))
    .size
}

function names(all: readonly string[]): string {
  const unique = [...new Set(all)]
  if (unique.length <= MOST_NAMES) return unique.join(', ')
  return `${unique.slice(0, MOST_NAMES).join(', ')} and ${unique.length - MOST_NAMES} more`
}

function where(pulls: readonly Pull[]): string {
  return `on ${names(pulls.map(({ nodeName }) => nodeName))}`
}

function named({ imageRef }: Pull): string {
  return isUnknown(imageRef) ? 'An image not yet known' : imageRef
}

const LONGEST_ERROR = 160

function sentence(text: string): string {
  if (text === '') return ''
  if (text.length > LONGEST_ERROR) return `${text.slice(0, LONGEST_ERROR)}…`
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`
}

function failure(group: Group, now: number): Concern {
  const [first] = group
  const reason = first.errorReason ?? 'unknown'
  const waiting = podCount(group)
  const attempt = Math.max(...group.map(pull => pull.attempt))
  const retries = group.flatMap(({ nextRetryAt }) => (nextRetryAt === undefined ? [] : [nextRetryAt]))
  const circumstances = [
    ...(waiting > 0 ? [`${count(waiting, 'pod waits', 'pods wait')}`] : []),
    ...(attempt > 1 ? [`attempt ${attempt}`] : []),
  ]
  return {
    key: `failed ${first.imageRef} ${reason}`,
    kind: 'failed',
    subject: named(first),
    what: `cannot be pulled ${where(group)}: ${REASON_WORDS[reason]}.`,
    advice: [advice(reason, group), circumstances.length > 0 ? `${circumstances.join('; ')}.` : '']
      .filter(Boolean)
      .join(' '),
    retrySeconds: retries.length === 0 ? undefined : Math.max(0, Math.min(...retries) - now) / 1000,
    query: `image:${first.imageRef} status:failed`,
    pullId: first.id,
  }
}

function advice(reason: ErrorReason, group: Group): string {
  const [first] = group
  const registry = registryOf(first.imageRef, first.registry)
  const namespaces = names(group.flatMap(({ pods }) => pods.map(({ namespace }) => namespace)))
  const owners = names(group.flatMap(({ pods }) => pods.map(({ owner, podName }) => owner ?? podName)))
  switch (reason) {
    case 'unauthorized': {
      const secret =
        namespaces === ''
          ? `The credentials for ${registry} are missing or wrong`
          : `The pull secret of namespace ${namespaces} is missing or wrong`
      // Docker Hub does not tell a private repository from one that does not exist.
      return registry === 'docker.io' ? `${secret}, or the repository does not exist.` : `${secret}.`
    }
    case 'not_found':
      return `The registry has no such image or tag: check the name${owners === '' ? '' : ` in ${owners}`}.`
    case 'rate_limited':
      return `${registry} limits this cluster: pull with an account, or through a mirror.`
    case 'timeout':
    case 'network':
      return `The node does not get through to ${registry}: check its DNS, proxy and firewall.`
    case 'tls':
      return `The node does not trust the certificate of ${registry}: containerd needs its CA in certs.d.`
    case 'disk_full':
      return 'There is no room left under the node’s containerd root: free some, or enlarge the disk.'
    case 'invalid_reference':
      return `Correct the image’s name${owners === '' ? '' : ` in ${owners}`}.`
    case 'canceled':
      return 'It was cancelled, as happens when containerd restarts; the kubelet tries again while a pod waits.'
    case 'server_error':
      return `${registry} answers with errors of its own: look at the registry.`
    case 'unknown':
      return sentence(first.error?.split('\n', 1)[0] ?? '')
  }
}

function stall(
  group: Group,
  moving: ReadonlyMap<string, number>,
  still: ReadonlyMap<string, number>,
  now: number,
): Concern {
  const [first] = group
  const registry = registryOf(first.imageRef, first.registry)
  const since = Math.min(...group.map(pull => pull.stalledSince ?? now))
  const others = moving.get(registry) ?? 0
  const allStill =
    (still.get(registry) ?? 0) > group.length || new Set(group.map(({ nodeName }) => nodeName)).size > 1
  const hint =
    others > 0
      ? `${registry} answers other pulls at ${rate(others)}: look at the node’s network.`
      : allStill
        ? `No pull from ${registry} moves: look at the registry.`
        : ''
  return {
    key: `stalled ${first.imageRef}`,
    kind: 'stalled',
    subject: named(first),
    what: `has not moved for ${duration((now - since) / 1000)} ${where(group)}${group.length === 1 ? ` (${percent(first.percent)})` : ''}.`,
    advice: hint,
    retrySeconds: undefined,
    query: `image:${first.imageRef} status:stalled`,
    pullId: first.id,
  }
}

function silence(nodes: readonly ClusterNode[], now: number): Concern {
  const since = Math.max(...nodes.map(({ lastSeen }) => lastSeen))
  const one = nodes.length === 1
  return {
    key: 'lost',
    kind: 'lost',
    subject: names(nodes.map(({ name }) => name)),
    what: one
      ? `: its agent has been silent since ${timeOfDay(since)} (${duration((now - since) / 1000)}).`
      : `: ${nodes.length} agents are silent, the last one since ${timeOfDay(since)}.`,
    advice: `What ${one ? 'this node pulls' : 'these nodes pull'} is not known. Is the node up, and the agent’s pod on it running?`,
    retrySeconds: undefined,
    query: '',
    pullId: undefined,
  }
}

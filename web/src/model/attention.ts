/** The current problems in plain words, each with advice on how to fix it. */
import type { ClusterNode, NodeList, Pull, Unobserved } from '../wire/wire'
import {
  attemptWords,
  type FailureGroup,
  failingWords,
  failureGroups,
  firstRetry,
  groupBy,
  imageCount,
  nodeNames,
  REASON_WORDS,
  reasonOf,
  reasonWords,
  retryWords,
  severity,
} from './failureGroups'
import { ANY_MOMENT, count, duration, joined, listed, percent, rate, timeOfDay } from './format'
import { isUnknown, registryOf } from './images'
import { timeLeftWords } from './limit'
import { hasEnded, isOnlyPullStalled, pullState } from './pullState'
import { blockedWords, type LivePulls, livePulls } from './queue'
import {
  type Context,
  goneCount,
  isListed,
  listedWaiterCount,
  standing,
  waiterCount,
  waitersOf,
} from './standing'

export interface Concern {
  readonly key: string
  readonly kind: 'failed' | 'stalled' | 'cancelled' | 'unobserved' | 'lost'
  /** An image reference, a registry or a node's name. */
  readonly subject: string
  /** The rest of the sentence that begins with `subject`. */
  readonly what: string
  readonly advice: string
  /** When the next attempt is expected; empty or missing if none is expected. */
  readonly retry?: string
  /** A query that finds the affected rows. */
  readonly query: string
  /** The key of the row to show. */
  readonly rowKey?: string
}

const MOST_NAMES = 3
const MOST_SEARCHED = 20

export function concerns(
  pulls: Iterable<Pull>,
  { nodes, unobserved }: Pick<NodeList, 'nodes' | 'unobserved'>,
  context: Context,
  now: number,
): readonly Concern[] {
  const found = sorted([...pulls], context)
  const silent = nodes.filter(({ state }) => state === 'lost')
  const failures = [...failureGroups(found.failing)].sort((a, b) => bySeverity(a, b, context))
  return [
    ...failures.map(group => failure(group, context, now)),
    ...images(found.stalled).map(group => stall(group, found, now)),
    ...blockers(found, context),
    ...(unobserved.length > 0 ? unobserved.map(blindNodes) : images(found.unobserved).map(blindPulls)),
    ...(silent.length > 0 ? [silence(silent, now)] : []),
    ...images(found.cancelled).map(group => cancellation(group, context)),
  ]
}

type Group = readonly [Pull, ...Pull[]]

interface Found {
  readonly all: readonly Pull[]
  readonly failing: readonly Pull[]
  readonly stalled: readonly Pull[]
  readonly cancelled: readonly Pull[]
  readonly unobserved: readonly Pull[]
  readonly moving: readonly Pull[]
  readonly live: LivePulls
}

function sorted(pulls: readonly Pull[], context: Context): Found {
  const live = pulls.filter(pull => standing(pull, context) === 'live')
  return {
    all: pulls,
    failing: pulls.filter(pull => standing(pull, context) === 'failing' && isListed(pull, context)),
    stalled: live.filter(pull => pullState(pull) === 'stalled'),
    cancelled: live.filter(pull => pullState(pull) === 'cancelled'),
    unobserved: live.filter(({ status }) => status === 'unobserved'),
    moving: live.filter(pull => !hasEnded(pull) && pull.stalledSince === undefined && pull.bytesPerSec > 0),
    live: livePulls(pulls),
  }
}

function images(pulls: readonly Pull[]): readonly Group[] {
  return [...groupBy(pulls, ({ imageRef }) => imageRef).values()].sort(
    (a, b) => b.length - a.length || a[0].imageRef.localeCompare(b[0].imageRef),
  )
}

/** A registry that fails for many images ranks above a problem with a single image. */
function bySeverity(a: FailureGroup, b: FailureGroup, context: Context): number {
  return (
    Number(a.registry === undefined) - Number(b.registry === undefined) ||
    severity(a.pulls[0]) - severity(b.pulls[0]) ||
    waiterCount(b.pulls, context) - waiterCount(a.pulls, context) ||
    b.pulls.length - a.pulls.length ||
    a.key.localeCompare(b.key)
  )
}

function names(all: readonly string[]): string {
  return listed([...new Set(all)], MOST_NAMES)
}

function where(pulls: readonly Pull[]): string {
  return `on ${names(pulls.map(({ nodeName }) => nodeName).sort(byNumber))}`
}

const byNumber = (a: string, b: string): number => a.localeCompare(b, 'en', { numeric: true })

function named({ imageRef }: Pull): string {
  return isUnknown(imageRef) ? 'An image not yet known' : imageRef
}

function waiting(pods: number): string {
  return pods > 0 ? `${count(pods, 'pod is waiting', 'pods are waiting')}.` : ''
}

const LONGEST_ERROR = 160

function sentence(text: string): string {
  if (text === '') return ''
  if (text.length > LONGEST_ERROR) return `${text.slice(0, LONGEST_ERROR)}…`
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`
}

function failure({ key, pulls, registry }: FailureGroup, context: Context, now: number): Concern {
  const [first] = pulls
  const reason = reasonOf(first)
  const next = firstRetry(pulls)
  return {
    key,
    kind: 'failed',
    subject: registry ?? named(first),
    what:
      registry === undefined
        ? `cannot be pulled ${where(pulls)}: ${isNeverPulled(first) ? 'not on the node' : REASON_WORDS[reason]}.`
        : `: ${imageCount(pulls)} images cannot be pulled on ${count(nodeNames(pulls).length, 'node')}: ${REASON_WORDS[reason]}.`,
    advice: joined(
      ' ',
      advice(pulls, context) || sentence(first.error?.split('\n', 1)[0] ?? ''),
      waiting(listedWaiterCount(pulls, context)),
      sentence(failingWords(pulls, context, now)),
    ),
    retry: sentence(isNotTried(first) ? retryWords(next, now) : attemptWords(next ?? first, now)),
    query: `${registry === undefined ? `image:${first.imageRef}` : `registry:${registry}`} status:failing`,
    rowKey: pulls.length > 1 ? key : first.id,
  }
}

/** Whether the pod's pull policy is Never. The kubelet then looks for the image on the node but never pulls it. */
export function isNeverPulled({ pods, error }: Pull): boolean {
  const reasons = pods.map(({ waitingReason }) => waitingReason)
  return reasons.includes('ErrImageNeverPull') || /pull policy of Never/.test(error ?? '')
}

/** True if the kubelet cannot even try to pull the image. The kubelet counts how many times it has checked such an
 * image, but a check is not an attempt. */
export function isNotTried(pull: Pull): boolean {
  return pull.errorReason === 'invalid_reference' || isNeverPulled(pull)
}

/** Why a pull failed, after the number of the attempt if this was not the first one: `attempt 5: not found`. `pulls` are
 * all pulls of the row. If their numbers differ, no number is shown. */
export function failureWords(pull: Pull, pulls: readonly Pull[] = [pull]): string {
  if (isNeverPulled(pull)) return 'not on the node'
  const { attempt } = pull
  const isShared = pulls.every(one => one.status === 'failed' && one.attempt === attempt)
  const isNumbered = attempt > 1 && isShared && !isNotTried(pull)
  return `${isNumbered ? `attempt ${attempt}: ` : ''}${reasonWords(pull)}`
}

/** How to fix the cause of these failures; empty if no remedy is known. */
export function advice(pulls: readonly [Pull, ...Pull[]], context: Context): string {
  const [first] = pulls
  const registry = registryOf(first)
  const waiters = pulls.flatMap(pull => waitersOf(pull, context))
  const namespaces = names(waiters.map(({ namespace }) => namespace))
  const owners = names(waiters.map(({ owner, podName }) => owner ?? podName))
  const inOwners = owners === '' ? '' : ` in ${owners}`
  if (isNeverPulled(first)) {
    return `imagePullPolicy is Never${inOwners}, and the image is not on the node: load it there, or change the policy.`
  }
  switch (reasonOf(first)) {
    case 'unauthorized': {
      const secret =
        namespaces === ''
          ? `The credentials for ${registry} are missing or wrong`
          : `The pull secret of namespace ${namespaces} is missing or wrong`
      // Docker Hub does not distinguish a private repository from one that does not exist.
      return registry === 'docker.io' ? `${secret}, or the repository does not exist.` : `${secret}.`
    }
    case 'not_found':
      return `The registry has no such image or tag: check the name${inOwners}.`
    case 'rate_limited':
      return `${registry} rate-limits this cluster: pull with an account, or through a mirror.`
    case 'timeout':
    case 'network':
      return `The node cannot reach ${registry}: check its DNS, proxy and firewall.`
    case 'tls':
      return `The node does not trust the certificate of ${registry}: containerd needs its CA in certs.d.`
    case 'disk_full':
      return 'The disk of the node’s containerd root is full: free some space, or enlarge the disk.'
    case 'invalid_reference':
      return `Correct the image’s name${inOwners}.`
    case 'server_error':
      return `${registry} returns server errors: check the registry.`
    case 'canceled':
    case 'unknown':
      return ''
  }
}

function stall(group: Group, found: Found, now: number): Concern {
  const [first] = group
  const since = Math.min(...group.map(pull => pull.stalledSince ?? now))
  const at = group.length === 1 ? ` (${percent(first.percent)})` : ''
  return {
    key: `stalled ${first.imageRef}`,
    kind: 'stalled',
    subject: named(first),
    what: `has received no bytes for ${duration((now - since) / 1000)} ${where(group)}${at}.`,
    advice: stallAdvice(group, found),
    query: `image:${first.imageRef} status:stalled`,
    rowKey: first.id,
  }
}

/** Other pulls from the same registry show whether the registry or the node is the cause. */
function stallAdvice(group: Group, { all, stalled, moving }: Found): string {
  const [first] = group
  const registry = registryOf(first)
  const sameRegistry = (pull: Pull) => registryOf(pull) === registry
  const others = moving.filter(sameRegistry).reduce((sum, { bytesPerSec }) => sum + bytesPerSec, 0)
  if (others > 0) {
    const isNode = !group.every(pull => isOnlyPullStalled(pull, all))
    return `${registry} serves other pulls at ${rate(others)}${isNode ? ': check the node’s network.' : ', and the node receives other images: only the connection of this pull is affected.'}`
  }
  const areStalled = stalled.filter(sameRegistry)
  return nodeNames(areStalled).length > 1 || areStalled.length > group.length
    ? `No pull from ${registry} receives data: check the registry.`
    : ''
}

/** A pull that has just started may soon be over, so it is not a problem yet. */
const SHORT_MS = 60_000

/** The pulls that block their node's queue although no pod is waiting for them. */
function blockers({ all, live }: Found, context: Context): readonly Concern[] {
  const { now } = context
  return [...live.values()].flat().flatMap(pull => {
    const isShort = now - pull.startedAt < SHORT_MS
    if (isShort || pull.stalledSince !== undefined || blockedWords(pull, live) === '') return []
    if (listedWaiterCount([pull], context) > 0) return []
    const words = blockedWords(pull, live, goneCount(pull.nodeName, all, context))
    const left = timeLeftWords(pull, now)
    return {
      key: `blocked ${pull.id}`,
      kind: 'stalled',
      subject: named(pull),
      what: `blocks the queue of ${pull.nodeName}. ${words}.`,
      advice: joined(
        ' ',
        left !== undefined && `It will probably end ${left === ANY_MOMENT ? 'at' : 'in'} ${left}.`,
        'The kubelet does not cancel it; with serializeImagePulls: false, it would not block other pulls.',
      ),
      query: `node:${pull.nodeName}`,
      rowKey: pull.id,
    }
  })
}

/** Current servers list such nodes, whereas older servers list only the pulls on them. */
function blindNodes({ count: nodeTotal, names: nodes, reason }: Unobserved): Concern {
  const one = nodeTotal === 1
  return {
    key: `unobserved ${reason}`,
    kind: 'unobserved',
    subject: one ? names(nodes) : count(nodeTotal, 'node'),
    what: `: pods are waiting for images there, but ${reason}.`,
    advice: `Their progress is not known. Check the agent’s pod on ${one ? 'this node' : names(nodes)}.`,
    query: `node:${nodes.slice(0, MOST_SEARCHED).join(',')}`,
  }
}

function blindPulls(group: Group): Concern {
  const [first] = group
  return {
    key: `unobserved ${first.imageRef}`,
    kind: 'unobserved',
    subject: named(first),
    what: `is being pulled ${where(group)}, where no agent reports.`,
    advice: 'Its progress is not known.',
    query: `image:${first.imageRef} status:unobserved`,
    rowKey: first.id,
  }
}

function cancellation(group: Group, context: Context): Concern {
  const [first] = group
  return {
    key: `cancelled ${first.imageRef}`,
    kind: 'cancelled',
    subject: named(first),
    what:
      `was cancelled ${where(group)} ${group.length === 1 ? `at ${percent(first.percent)}` : ''}`.trim() +
      '.',
    advice: joined(' ', 'The kubelet tries again by itself.', waiting(listedWaiterCount(group, context))),
    query: `image:${first.imageRef} status:cancelled`,
    rowKey: first.id,
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
      ? `: its agent has not reported since ${timeOfDay(since)} (${duration((now - since) / 1000)}).`
      : `: ${nodes.length} agents are not reporting, the last one since ${timeOfDay(since)}.`,
    advice: `The pulls of ${one ? 'this node' : 'these nodes'} are not known. Check the node and the agent’s pod.`,
    query: '',
  }
}

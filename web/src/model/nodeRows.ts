/** Nodes with their pulls. */
import type { Sort } from '../url/urlState'
import type { ClusterNode, LimitName, NodeState, Pull } from '../wire/wire'
import { speedOf } from './comparison'
import { groupBy } from './failureGroups'
import { count, joined } from './format'
import { registryOf } from './images'
import { LIMIT_WORDS, shortName } from './limit'
import { byFigure, byText, type Compare, type Order, ordered } from './order'
import { hasEnded, isOnlyPullStalled, limitNow, pullState } from './pullState'
import { type Facts, filtered, type Query } from './query'
import { blockedWords, deletedCount } from './queue'
import { factsOf } from './rollout'
import type { Context } from './standing'

/** What limits a node's running pulls, as a word and an explanatory sentence. */
export interface NodeLimit {
  readonly word: string
  readonly why: string
}

export interface NodeRow {
  readonly node: ClusterNode
  /** The running pulls (oldest first), then the queued pulls (oldest first), then the finished pulls (newest first). */
  readonly pulls: readonly Pull[]
  /** How many pulls are running, and how many are queued. */
  readonly active: number
  readonly queued: number
  /** How many more queued pulls belong only to deleted pods. Such a pull has no row until it starts. */
  readonly deleted: number
  /** How many of the running pulls are not receiving any bytes. */
  readonly stalled: number
  /** Whether at least one pull whose bytes can be observed is downloading. */
  readonly isDownloading: boolean
  readonly bytesPerSec: number
  readonly limit: NodeLimit | undefined
  /** The median speed of the pulls on this node. */
  readonly usualRate: number | undefined
}

const STATE_RANK: Readonly<Record<NodeState, number>> = {
  conflict: 0,
  lost: 1,
  late: 2,
  reporting: 3,
}

const byName = byText(({ node }: NodeRow) => node.name)

const byState: Compare<NodeRow> = (a, b) =>
  STATE_RANK[a.node.state] - STATE_RANK[b.node.state] || byName(a, b)

export const NODE_ORDER: Order<NodeRow> = {
  state: byState,
  node: byName,
  speed: (a, b) => a.bytesPerSec - b.bytesPerSec,
  usual: byFigure(({ usualRate }) => usualRate),
  active: (a, b) => a.active - b.active || a.queued - b.queued,
  containerd: byText(({ node }) => node.containerdVersion),
  agent: byText(({ node }) => node.agentVersion),
  // The column shows how long ago the node was last seen.
  seen: (a, b) => b.node.lastSeen - a.node.lastSeen,
}

export interface NodeQuery {
  readonly query: Query
  readonly sort: Sort | undefined
}

export function nodeRows(
  nodes: readonly ClusterNode[],
  pulls: Iterable<Pull>,
  { query, sort }: NodeQuery,
  context: Context,
): readonly NodeRow[] {
  const byNode = groupBy(pulls, ({ nodeName }) => nodeName)
  const served = servedNodes(byNode)
  const rows = nodes.map(node => nodeRow(node, byNode.get(node.name) ?? [], served, context.now))
  const shown = filtered(rows, query, row => nodeFacts(row, context))
  return ordered(shown, sort, NODE_ORDER, byState)
}

/** The nodes that are downloading from a registry, and the nodes whose downloads from that registry have
 * stalled. */
interface Served {
  readonly nodes: Set<string>
  readonly stalled: Set<string>
}

function servedNodes(byNode: ReadonlyMap<string, readonly Pull[]>): ReadonlyMap<string, Served> {
  const found = new Map<string, Served>()
  for (const [node, pulls] of byNode) {
    for (const pull of pulls.filter(one => !hasEnded(one))) {
      const served = found.get(registryOf(pull)) ?? { nodes: new Set(), stalled: new Set() }
      found.set(registryOf(pull), served)
      if (isStalled(pull)) served.stalled.add(node)
      else if (pull.bytesPerSec > 0) served.nodes.add(node)
    }
  }
  return found
}

/** What limits the node's pulls, and the pull that blocks its queue although no pod is waiting for it, if there is
 * one. */
function limitOf(
  live: readonly Pull[],
  pulls: readonly Pull[],
  served: ReadonlyMap<string, Served>,
): NodeLimit | undefined {
  const limit = technicalLimit(live, pulls, served)
  const blocked = live.map(pull => blockedWords(pull, new Map([[pull.nodeName, live]]))).find(Boolean)
  if (blocked === undefined) return limit
  return {
    word: joined(', ', limit?.word, 'a pull that no pod waits for'),
    why: joined(' ', limit?.why, `${blocked}.`),
  }
}

/** If a pull is stalled while the node receives other images, identifies its connection as the cause; if other nodes are
 * receiving bytes from the same registry, identifies the node. If several nodes are stalled and none is receiving bytes, identifies the registry as the cause. Otherwise, returns the
 * factor that limits most of the pulls. */
function technicalLimit(
  live: readonly Pull[],
  pulls: readonly Pull[],
  served: ReadonlyMap<string, Served>,
): NodeLimit | undefined {
  const stalled = live.find(isStalled)
  if (stalled !== undefined) {
    const registry = registryOf(stalled)
    const { nodes, stalled: others } = served.get(registry) ?? { nodes: new Set(), stalled: new Set() }
    if (isOnlyPullStalled(stalled, pulls))
      return {
        word: 'one connection',
        why: `${shortName(stalled)} receives no bytes from ${registry}, but the node receives other images.`,
      }
    if (nodes.size > 0)
      return {
        word: 'the node',
        why: `${registry} serves ${count(nodes.size, 'other node')}, but not this one.`,
      }
    // A single stalled node proves nothing, because there is no other node to compare it with.
    return others.size > 1
      ? { word: 'the registry', why: `${registry} serves none of ${others.size} nodes.` }
      : undefined
  }
  const bounds = live.flatMap(pull => (pull.status === 'queued' ? [] : (limitNow(pull) ?? [])))
  const [most] = [...groupBy(bounds, ({ by }) => by).values()].sort((a, b) => b.length - a.length)
  return most && { word: NODE_WORDS[most[0].by] ?? LIMIT_WORDS[most[0].by], why: most[0].why }
}

/** The server reports `network` as the limiting factor if other nodes are faster, so the word refers to this node's
 * network. */
const NODE_WORDS: Readonly<Partial<Record<LimitName, string>>> = { network: 'the node’s network' }

const isStalled = ({ stalledSince }: Pull): boolean => stalledSince !== undefined

function nodeRow(
  node: ClusterNode,
  pulls: readonly Pull[],
  served: ReadonlyMap<string, Served>,
  now: number,
): NodeRow {
  const live = pulls.filter(pull => !hasEnded(pull)).sort(byTurn)
  const queued = live.filter(isQueued).length
  const ended = pulls.filter(hasEnded).sort((a, b) => endOf(b) - endOf(a))
  return {
    node,
    pulls: [...live, ...ended],
    active: live.length - queued,
    queued,
    deleted: deletedCount(live),
    stalled: live.filter(isStalled).length,
    isDownloading: live.some(
      ({ status, percentBasis }) => status === 'downloading' && percentBasis === 'bytes',
    ),
    limit: limitOf(live, pulls, served),
    bytesPerSec: live.reduce((sum, { bytesPerSec }) => sum + bytesPerSec, 0),
    usualRate: usualRate(pulls, now),
  }
}

const isQueued = ({ status }: Pull): boolean => status === 'queued'

/** Running pulls come first, then queued pulls, both sorted oldest first. */
function byTurn(a: Pull, b: Pull): number {
  return Number(isQueued(a)) - Number(isQueued(b)) || a.startedAt - b.startedAt
}

/** `6 more pulls of deleted pods are queued. They have no rows until they start.` */
export function deletedWords(deleted: number): string {
  return deleted === 1
    ? '1 more pull of a deleted pod is queued. It has no row until it starts.'
    : `${deleted} more pulls of deleted pods are queued. They have no rows until they start.`
}

const endOf = ({ completedAt, startedAt }: Pull): number => completedAt ?? startedAt

/** The median download rate of completed pulls, weighted by their bytes. Small images therefore hardly count: most of the
 * time of their pulls passes before the first byte arrives. If no pull has completed, live pulls are used. Undefined if
 * nothing was downloaded. */
export function usualRate(pulls: readonly Pull[], now: number): number | undefined {
  const completed = pulls.filter(({ status }) => status === 'completed')
  return weightedMedianRate(completed, now) ?? weightedMedianRate(pulls, now)
}

/** A node has a usual rate from a registry once its completed pulls have downloaded this many bytes. A small image does
 * not show how fast a large one can be. */
const LEAST_BYTES = 100e6

/** The mean rate of a registry's current downloads in bytes per second, and the usual rate on the same nodes. Nodes without
 * a usual rate from this registry are left out. */
export interface CurrentRate {
  readonly speed: number
  /** Undefined if no node has a usual rate. In this case, no node is left out. */
  readonly usual: number | undefined
  readonly nodes: readonly string[]
}

/** Returns undefined if no pull is downloading. A pull whose bytes cannot be observed has no rate, and a pull that has
 * just started has none yet. `pulls` are the registry's pulls on all nodes. */
export function currentRate(pulls: readonly Pull[], now: number): CurrentRate | undefined {
  const active = pulls.filter(
    pull => pullState(pull) === 'downloading' && pull.bytesPerSec > 0 && speedOf(pull, now) !== undefined,
  )
  if (active.length === 0) return undefined
  const completed = groupBy(
    pulls.filter(({ status }) => status === 'completed'),
    ({ nodeName }) => nodeName,
  )
  const usual = new Map(
    [...new Set(active.map(({ nodeName }) => nodeName))].flatMap(nodeName => {
      const found = completed.get(nodeName) ?? []
      const known = found.reduce((sum, { downloadedBytes }) => sum + downloadedBytes, 0)
      const rate = known < LEAST_BYTES ? undefined : usualRate(found, now)
      return rate === undefined ? [] : [[nodeName, rate]]
    }),
  )
  const compared = usual.size > 0 ? active.filter(({ nodeName }) => usual.has(nodeName)) : active
  const mean = (rateOf: (pull: Pull) => number) =>
    compared.reduce((sum, pull) => sum + rateOf(pull), 0) / compared.length
  return {
    speed: mean(({ bytesPerSec }) => bytesPerSec),
    usual: usual.size > 0 ? mean(({ nodeName }) => usual.get(nodeName) ?? 0) : undefined,
    nodes: [...new Set(compared.map(({ nodeName }) => nodeName))],
  }
}

function weightedMedianRate(pulls: readonly Pull[], now: number): number | undefined {
  const bySpeed = pulls
    .flatMap(pull => {
      const speed = speedOf(pull, now)
      return speed === undefined ? [] : { speed, bytes: pull.downloadedBytes }
    })
    .sort(byFigure(({ speed }) => speed))
  let rest = bySpeed.reduce((sum, { bytes }) => sum + bytes, 0) / 2
  for (const { speed, bytes } of bySpeed) {
    rest -= bytes
    if (rest <= 0) return speed
  }
  return undefined
}

function nodeFacts({ node, pulls }: NodeRow, context: Context): Facts {
  return { ...factsOf(pulls, context), node: [node.name.toLowerCase()] }
}

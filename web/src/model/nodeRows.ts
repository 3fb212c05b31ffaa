/** Nodes with their pulls. */
import type { Sort } from '../url/urlState'
import type { ClusterNode, NodeState, Pull } from '../wire/wire'
import { speedOf } from './comparison'
import { byFigure, byText, type Compare, type Order, ordered } from './order'
import { hasEnded } from './pullState'
import { isEmpty, matches, type Query } from './query'
import { factsOf } from './rollout'
import type { Context } from './standing'

export interface NodeRow {
  readonly node: ClusterNode
  /** Running pulls, then the queue, each with the oldest on top; then ended pulls, the newest on top. */
  readonly pulls: readonly Pull[]
  /** How many pulls are running, and how many are queued. */
  readonly active: number
  readonly queued: number
  readonly bytesPerSec: number
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
  seen: (a, b) => a.node.lastSeen - b.node.lastSeen,
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
  const byNode = new Map<string, Pull[]>()
  for (const pull of pulls) {
    const known = byNode.get(pull.nodeName)
    if (known === undefined) byNode.set(pull.nodeName, [pull])
    else known.push(pull)
  }
  const rows = nodes.map(node => nodeRow(node, byNode.get(node.name) ?? [], context.now))
  const shown = isEmpty(query) ? rows : rows.filter(row => fits(query, row, context))
  return ordered(shown, sort, NODE_ORDER, byState)
}

function nodeRow(node: ClusterNode, pulls: readonly Pull[], now: number): NodeRow {
  const live = pulls.filter(pull => !hasEnded(pull)).sort(byTurn)
  const queued = live.filter(isQueued).length
  const ended = pulls.filter(hasEnded).sort((a, b) => endOf(b) - endOf(a))
  return {
    node,
    pulls: [...live, ...ended],
    active: live.length - queued,
    queued,
    bytesPerSec: live.reduce((sum, { bytesPerSec }) => sum + bytesPerSec, 0),
    usualRate: medianRate(pulls, now),
  }
}

const isQueued = ({ status }: Pull): boolean => status === 'queued'

/** Running pulls, then the queue from its oldest end. */
function byTurn(a: Pull, b: Pull): number {
  return Number(isQueued(a)) - Number(isQueued(b)) || a.startedAt - b.startedAt
}

const endOf = ({ completedAt, startedAt }: Pull): number => completedAt ?? startedAt

/** The median speed of completed and live pulls, each over its whole duration; undefined if nothing was
 * downloaded. */
export function medianRate(pulls: readonly Pull[], now: number): number | undefined {
  const rates = pulls.flatMap(pull => speedOf(pull, now) ?? []).sort((a, b) => a - b)
  return rates[Math.floor(rates.length / 2)]
}

function fits(query: Query, { node, pulls }: NodeRow, context: Context): boolean {
  const facts = factsOf(pulls, context)
  return matches(query, { ...facts, node: [node.name.toLowerCase()] })
}

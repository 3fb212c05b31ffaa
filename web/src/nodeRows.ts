/** PURE. Nodes with their pulls. */
import { type Compare, ordered } from './pullRows'
import { hasEnded } from './pullState'
import { isEmpty, matches, type Query } from './query'
import { factsOf } from './rollout'
import type { Sort } from './urlState'
import type { ClusterNode, NodeState, Pull } from './wire'

export interface NodeRow {
  readonly node: ClusterNode
  /** Unfinished ones first, then the newest. */
  readonly pulls: readonly Pull[]
  readonly active: number
  readonly bytesPerSec: number
}

const STATE_RANK: Readonly<Record<NodeState, number>> = { lost: 0, late: 1, reporting: 2 }

const byName: Compare<NodeRow> = (a, b) => a.node.name.localeCompare(b.node.name, 'en', { numeric: true })

const byState: Compare<NodeRow> = (a, b) =>
  STATE_RANK[a.node.state] - STATE_RANK[b.node.state] || byName(a, b)

export const NODE_ORDER: Readonly<Record<string, Compare<NodeRow>>> = {
  state: byState,
  node: byName,
  speed: (a, b) => a.bytesPerSec - b.bytesPerSec,
  active: (a, b) => a.active - b.active,
  containerd: (a, b) =>
    a.node.containerdVersion.localeCompare(b.node.containerdVersion, 'en', { numeric: true }),
  agent: (a, b) => a.node.agentVersion.localeCompare(b.node.agentVersion, 'en', { numeric: true }),
  seen: (a, b) => a.node.lastSeen - b.node.lastSeen,
}

export function nodeRows(
  nodes: readonly ClusterNode[],
  pulls: Iterable<Pull>,
  query: Query,
  sort: Sort | undefined,
): readonly NodeRow[] {
  const byNode = new Map<string, Pull[]>()
  for (const pull of pulls) {
    const known = byNode.get(pull.nodeName)
    if (known === undefined) byNode.set(pull.nodeName, [pull])
    else known.push(pull)
  }
  const rows = nodes.map(node => nodeRow(node, byNode.get(node.name) ?? []))
  const shown = isEmpty(query) ? rows : rows.filter(row => fits(query, row))
  return ordered(shown, sort, NODE_ORDER, byState)
}

function nodeRow(node: ClusterNode, pulls: Pull[]): NodeRow {
  const active = pulls.filter(pull => !hasEnded(pull))
  return {
    node,
    pulls: pulls.sort((a, b) => Number(hasEnded(a)) - Number(hasEnded(b)) || b.startedAt - a.startedAt),
    active: active.length,
    bytesPerSec: active.reduce((sum, { bytesPerSec }) => sum + bytesPerSec, 0),
  }
}

function fits(query: Query, { node, pulls }: NodeRow): boolean {
  const facts = factsOf(pulls)
  return matches(query, { ...facts, node: [node.name.toLowerCase()] })
}

import { useMemo } from 'react'
import { classes } from '../classes'
import { type Column, DataTable } from '../components/DataTable'
import { Icon } from '../components/Icon'
import { Notice } from '../components/Notice'
import { PullList } from '../components/PullList'
import { count, duration, rate } from '../format'
import { NODE_ORDER, type NodeRow, nodeRows } from '../nodeRows'
import { parseQuery } from '../query'
import { stands } from '../store/store'
import { useNow, useSnapshot } from '../store/useStore'
import { toggleOpen } from '../urlState'
import { changeUrl, useUrl } from '../useUrl'
import type { NodeState } from '../wire'
import { EmptyPulls, NoAgents, NothingMatches } from './EmptyPulls'
import styles from './NodesView.module.css'
import { Registries } from './Registries'

const STATES: Readonly<Record<NodeState, readonly ['done' | 'queued' | 'lost', string]>> = {
  reporting: ['done', 'Reporting'],
  late: ['queued', 'Late'],
  lost: ['lost', 'Lost'],
}

function State({ state }: { readonly state: NodeState }) {
  const [icon, word] = STATES[state]
  return (
    <span className={classes(styles.state, styles[state])}>
      <Icon name={icon} />
      {word}
    </span>
  )
}

function Seen({ at }: { readonly at: number }) {
  const now = useNow()
  const ago = (now - at) / 1000
  return <span className={styles.dim}>{ago < 2 ? 'now' : `${duration(ago)} ago`}</span>
}

function column(
  key: string,
  title: string,
  cell: (row: NodeRow) => React.ReactNode,
  align?: 'end',
): Column<NodeRow> {
  const compare = NODE_ORDER[key]
  return {
    key,
    title,
    cell,
    ...(align !== undefined && { align }),
    ...(compare !== undefined && { compare }),
  }
}

const COLUMNS: readonly Column<NodeRow>[] = [
  column('state', 'Agent', ({ node }) => <State state={node.state} />),
  column('node', 'Node', ({ node }) => <bdi className={styles.name}>{node.name}</bdi>),
  column('containerd', 'containerd', ({ node }) => (
    <span className={styles.dim}>{node.containerdVersion || '–'}</span>
  )),
  column('snapshotter', 'Snapshotter', ({ node }) => (
    <span className={styles.dim}>{node.snapshotter || '–'}</span>
  )),
  column('agent', 'Version', ({ node }) => <span className={styles.dim}>{node.agentVersion || '–'}</span>),
  column(
    'speed',
    'Throughput',
    ({ bytesPerSec }) => <span className={styles.figure}>{bytesPerSec > 0 ? rate(bytesPerSec) : '–'}</span>,
    'end',
  ),
  column(
    'active',
    'Pulling',
    ({ active }) => <span className={styles.dim}>{active === 0 ? '–' : count(active, 'image')}</span>,
    'end',
  ),
  column('seen', 'Last report', ({ node }) => <Seen at={node.lastSeen} />, 'end'),
]

export function NodesView() {
  const { nodes, pulls, version, connection } = useSnapshot()
  const { query, sort, open } = useUrl()
  // `version` says that something in the same map has changed.
  const rows = useMemo(
    () => nodeRows(nodes?.nodes ?? [], pulls.values(), parseQuery(query), sort),
    [nodes, pulls, version, query, sort],
  )
  if (nodes === undefined && stands(connection)) {
    return (
      <Notice icon="resolving" title="Asking for the nodes…">
        <p>The server answers with every node whose agent it has heard.</p>
      </Notice>
    )
  }
  if (nodes === undefined) return <EmptyPulls query="" total={0} />
  if (nodes.nodes.length === 0) return <NoAgents />
  if (rows.length === 0) return <NothingMatches />
  return (
    <div className={styles.view}>
      <DataTable
        caption="Nodes"
        columns={COLUMNS}
        className={styles.table}
        rows={rows}
        rowKey={({ node }) => node.name}
        rowLabel={({ node }) => `${node.name}: its pulls`}
        sort={sort}
        onSort={next => changeUrl({ sort: next })}
        open={open}
        onToggle={key => changeUrl({ open: toggleOpen(open, key) })}
        detail={({ pulls: ofNode }) =>
          ofNode.length === 0 ? (
            <p className={styles.dim}>Nothing was pulled on this node lately.</p>
          ) : (
            <PullList pulls={ofNode} name="image" />
          )
        }
      />
      <Registries registries={nodes.registries} />
    </div>
  )
}

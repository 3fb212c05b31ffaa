import { useMemo } from 'react'
import { classes } from '../classes'
import { columnsFor, DataTable } from '../components/DataTable'
import { HiddenRows } from '../components/HiddenRows'
import { Icon } from '../components/Icon'
import { MissingRows } from '../components/MissingRows'
import { Name } from '../components/Name'
import { PullList } from '../components/PullList'
import { ago, count, rate } from '../model/format'
import { deletedWords, NODE_ORDER, type NodeRow, nodeRows } from '../model/nodeRows'
import { parseQuery } from '../model/query'
import { useNow, useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import { useUrl } from '../url/useUrl'
import type { NodeState } from '../wire/wire'
import { Loading, NoAgents, NothingMatches } from './EmptyPulls'
import styles from './NodesView.module.css'
import { Registries } from './Registries'

const STATES: Readonly<Record<NodeState, readonly ['done' | 'queued' | 'lost', string]>> = {
  reporting: ['done', 'Reporting'],
  late: ['queued', 'Late'],
  lost: ['lost', 'Lost'],
  conflict: ['lost', 'Two agents with this name'],
}

function State({ state }: { readonly state: NodeState }) {
  const [icon, word] = STATES[state]
  return (
    <span className={classes(styles.state, shared[state])}>
      <Icon name={icon} />
      {word}
    </span>
  )
}

function Seen({ at }: { readonly at: number }) {
  const now = useNow()
  return <span className={shared.dim}>{ago((now - at) / 1000)}</span>
}

function Dim({ children }: { readonly children: string }) {
  return <span className={styles.dim}>{children === '' ? '–' : children}</span>
}

function Speed({ value, title }: { readonly value: number; readonly title?: string }) {
  return (
    <span className={shared.figure} title={title}>
      {value > 0 ? rate(value) : '–'}
    </span>
  )
}

/** The current throughput. If a download is not receiving any bytes, the throughput is 0 rather than unknown. */
function Throughput({ row: { bytesPerSec, isDownloading, stalled, limit } }: { readonly row: NodeRow }) {
  const isZero = bytesPerSec === 0 && (isDownloading || stalled > 0)
  return (
    <>
      {isZero ? (
        <span className={classes(shared.figure, stalled > 0 && shared.stalled)}>{rate(0)}</span>
      ) : (
        <Speed value={bytesPerSec} />
      )}
      {limit !== undefined && (
        <span className={styles.more} title={limit.why}>
          limit: {limit.word}
        </span>
      )}
    </>
  )
}

function Pulling({ row: { active, queued, deleted, stalled } }: { readonly row: NodeRow }) {
  return (
    <>
      <Dim>{active === 0 ? '–' : count(active, 'image')}</Dim>
      {queued > 0 && <span className={styles.more}>{queued} queued</span>}
      {deleted > 0 && <span className={styles.more}>+{deleted} for deleted pods</span>}
      {stalled > 0 && <span className={classes(styles.more, shared.stalled)}>{stalled} stalled</span>}
    </>
  )
}

function Detail({ row: { pulls, deleted } }: { readonly row: NodeRow }) {
  if (pulls.length === 0) return <p className={shared.dim}>Nothing has been pulled on this node recently.</p>
  return (
    <>
      <PullList pulls={pulls} name="image" />
      {deleted > 0 && <p className={shared.dim}>{deletedWords(deleted)}</p>}
    </>
  )
}

const column = columnsFor<NodeRow>(NODE_ORDER)

const COLUMNS = [
  column('state', 'Agent', ({ node }) => <State state={node.state} />),
  column('node', 'Node', ({ node }) => <Name name={node.name} />),
  column('containerd', 'containerd', ({ node }) => <Dim>{node.containerdVersion}</Dim>),
  column('snapshotter', 'Snapshotter', ({ node }) => <Dim>{node.snapshotter}</Dim>),
  column('agent', 'Version', ({ node }) => <Dim>{node.agentVersion}</Dim>),
  column('speed', 'Throughput', row => <Throughput row={row} />, 'end'),
  column(
    'usual',
    'Usual',
    ({ usualRate }) => <Speed value={usualRate ?? 0} title="the rate at which one pull usually downloads" />,
    'end',
  ),
  column('active', 'Pulling', row => <Pulling row={row} />, 'end'),
  column('seen', 'Last report', ({ node }) => <Seen at={node.lastSeen} />, 'end'),
]

export function NodesView() {
  const { nodes, pulls, version, context, counts } = useSnapshot()
  const { query, sort, open } = useUrl()
  // The map of pulls is changed in place. `version` is incremented whenever its contents change.
  const rows = useMemo(
    () =>
      nodeRows(nodes?.nodes ?? [], pulls.values(), { query: parseQuery(query, context.now), sort }, context),
    [nodes, pulls, version, query, sort, context],
  )
  if (nodes === undefined || counts === undefined) return <Loading what="nodes" />
  if (nodes.nodes.length === 0) return <NoAgents />
  const missing = open.filter(key => !nodes.nodes.some(({ name }) => name === key))
  return (
    <>
      <MissingRows keys={missing} what="node" why="Its agent has not reported for a long time." />
      <HiddenRows
        names={open.filter(key => !missing.includes(key) && !rows.some(({ node }) => node.name === key))}
      />
      {rows.length === 0 ? (
        <NothingMatches />
      ) : (
        <div className={styles.view}>
          <DataTable
            caption="Nodes"
            columns={COLUMNS}
            className={styles.table}
            rows={rows}
            rowKey={({ node }) => node.name}
            rowLabel={({ node }) => `${node.name}: its pulls`}
            detail={row => <Detail row={row} />}
          />
          <Registries registries={nodes.registries} />
        </div>
      )}
    </>
  )
}

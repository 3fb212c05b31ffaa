import { Notice } from '../components/Notice'
import { timeOfDay } from '../format'
import { useSnapshot } from '../store/useStore'
import { changeUrl } from '../useUrl'

interface Props {
  readonly query: string
  /** Pulls there are, shown or not. */
  readonly total: number
}

export function EmptyPulls({ query, total }: Props) {
  const { connection, nodes } = useSnapshot()
  if (total > 0 && query !== '') return <NothingMatches />
  if (connection.kind === 'connecting') {
    return (
      <Notice icon="downloading" title="Connecting…">
        <p>The server sends the state of every pull as soon as it answers.</p>
      </Notice>
    )
  }
  if (connection.kind === 'lost') {
    return (
      <Notice icon="lost" title={`No answer from the server since ${timeOfDay(connection.since)}`}>
        <p>
          This page tries again by itself. Is the server's pod running, and does the way to it still stand?
        </p>
        <code>kubectl -n pulltrace get pods</code>
      </Notice>
    )
  }
  if (nodes !== undefined && nodes.nodes.length === 0) return <NoAgents />
  return (
    <Notice icon="done" title="Nothing is being pulled">
      <p>
        A pull appears here in the second in which a node begins with it: progress, speed, layers, and who
        waits for it. Finished ones stay for a while.
      </p>
    </Notice>
  )
}

export function NothingMatches() {
  return (
    <Notice icon="search" title="Nothing matches the search">
      <button type="button" onClick={() => changeUrl({ query: '' })}>
        Clear the search
      </button>
    </Notice>
  )
}

export function NoAgents() {
  return (
    <Notice icon="info" title="No agent has reported yet">
      <p>Each node needs an agent. The chart deploys them as a DaemonSet:</p>
      <code>
        helm upgrade --install pulltrace oci://ghcr.io/d44b/charts/pulltrace -n pulltrace --create-namespace
      </code>
      <ul>
        <li>
          Are they running? <code>kubectl -n pulltrace get daemonset,pods</code>
        </li>
        <li>
          What do they say?{' '}
          <code>kubectl -n pulltrace logs -l app.kubernetes.io/component=agent --tail=20</code>
        </li>
        <li>Can the nodes reach the server? A 401 or 403 in that log: it refuses these agents.</li>
      </ul>
    </Notice>
  )
}

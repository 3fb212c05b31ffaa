import type { ReactNode } from 'react'
import { Notice } from '../components/Notice'
import { useDoneSince } from '../components/Tiles'
import { timeOfDay } from '../model/format'
import { useSnapshot } from '../store/useStore'
import { changeUrl } from '../url/useUrl'

interface Props {
  readonly query: string
  /** The total number of pulls, including those that are not shown. */
  readonly total: number
}

export function EmptyPulls({ query, total }: Props) {
  const { connection, nodes, counts } = useSnapshot()
  const since = useDoneSince()
  if (total > 0 && query !== '') {
    return query === 'status:slow' ? (
      <NothingMatches title="No pull is slower than usual" />
    ) : (
      <NothingMatches>
        <p>
          The page lists pulls, and completed pulls only{' '}
          {since === undefined ? 'for a limited time' : `since ${timeOfDay(since)}`}. It does not list the
          images that a node already has.
        </p>
      </NothingMatches>
    )
  }
  if (connection.kind === 'lost' || counts === undefined) return <Loading what="pulls" />
  if (nodes?.nodes.length === 0) return <NoAgents />
  return (
    <Notice icon="done" title="No image is being pulled">
      <p>A pull appears here as soon as a node starts it.</p>
    </Notice>
  )
}

/** Explains why a list has not arrived yet. */
export function Loading({ what }: { readonly what: string }) {
  const { connection } = useSnapshot()
  if (connection.kind === 'lost') {
    return (
      <Notice icon="lost" title={`No response from the server since ${timeOfDay(connection.since)}`}>
        <p>Check that the server’s pod is running and that this machine can reach it:</p>
        <code>kubectl -n pulltrace get pods</code>
      </Notice>
    )
  }
  return (
    <Notice
      icon="downloading"
      title={connection.kind === 'connecting' ? 'Connecting…' : `Loading the ${what}…`}
    />
  )
}

interface NothingProps {
  readonly title?: string
  readonly children?: ReactNode
}

export function NothingMatches({ title = 'Nothing matches the search', children }: NothingProps) {
  return (
    <Notice icon="search" title={title}>
      {children}
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
          Check that they run: <code>kubectl -n pulltrace get daemonset,pods</code>
        </li>
        <li>
          Read their log:{' '}
          <code>kubectl -n pulltrace logs -l app.kubernetes.io/component=agent --tail=20</code>
        </li>
        <li>If the log shows 401 or 403, the server rejects these agents.</li>
      </ul>
    </Notice>
  )
}

import { useMemo } from 'react'
import { DataTable } from '../components/DataTable'
import { Notice } from '../components/Notice'
import { byTrouble, POD_ORDER, type PodRow, podFacts, podRow } from '../podRows'
import { ordered } from '../pullRows'
import { isEmpty, matches, parseQuery } from '../query'
import { useSnapshot } from '../store/useStore'
import { toggleOpen } from '../urlState'
import { changeUrl, useUrl } from '../useUrl'
import { NothingMatches } from './EmptyPulls'
import { PodDetail } from './PodDetail'
import styles from './PodsView.module.css'
import { POD_COLUMNS } from './podColumns'

export function PodsView() {
  const { pods, pulls, version, connection } = useSnapshot()
  const { query, sort, open } = useUrl()
  const list = pods === 'missing' ? undefined : pods
  // `version` says that something in the same map has changed.
  const rows = useMemo(() => {
    const asked = parseQuery(query)
    const all = (list?.pods ?? []).map(pod => podRow(pod, pulls))
    const shown = isEmpty(asked) ? all : all.filter(row => matches(asked, podFacts(row)))
    return ordered(shown, sort, POD_ORDER, byTrouble)
  }, [list, pulls, version, query, sort])

  if (pods === 'missing' || list?.watching === false) return <NoAccess reason={list?.reason} />
  if (list === undefined) {
    return (
      <Notice
        icon={connection.kind === 'lost' ? 'lost' : 'waiting'}
        title={connection.kind === 'lost' ? 'No answer from the server' : 'Asking for the pods…'}
      >
        <p>The pods come from the server, which watches them in Kubernetes.</p>
      </Notice>
    )
  }
  if (rows.length === 0 && list.pods.length > 0) return <NothingMatches />
  if (rows.length === 0) {
    return (
      <Notice icon="done" title="No pod waits for an image">
        <p>A pod appears here while one of its containers cannot start for want of its image.</p>
      </Notice>
    )
  }
  return (
    <DataTable
      caption="Pods that wait for images"
      columns={POD_COLUMNS}
      className={styles.table}
      rows={rows}
      rowKey={({ key }) => key}
      rowLabel={label}
      sort={sort}
      onSort={next => changeUrl({ sort: next })}
      open={open}
      onToggle={key => changeUrl({ open: toggleOpen(open, key) })}
      detail={row => <PodDetail row={row} />}
    />
  )
}

function label({ pod }: PodRow): string {
  return `${pod.namespace}/${pod.podName}: its containers`
}

function NoAccess({ reason }: { readonly reason: string | undefined }) {
  return (
    <Notice icon="lost" title="The server does not see pods">
      {reason !== undefined && <code>{reason}</code>}
      <p>
        Pulls are shown all the same; who waits for them, failures and retries are not. The server reads pods
        and events of the Kubernetes API with its service account. May it?
      </p>
      <code>kubectl auth can-i watch pods -A --as system:serviceaccount:pulltrace:pulltrace-server</code>
      <p>The chart grants this by default; outside a cluster there is nothing to see.</p>
    </Notice>
  )
}

import { useMemo, useRef } from 'react'
import { DataTable } from '../components/DataTable'
import { HiddenRows } from '../components/HiddenRows'
import { MissingRows } from '../components/MissingRows'
import { Notice } from '../components/Notice'
import { clock, count, joined } from '../model/format'
import { shortName } from '../model/limit'
import { ordered } from '../model/order'
import { byTrouble, POD_ORDER, type PodRow, podFacts, podRows, startedHeading } from '../model/podRows'
import { filtered, parseQuery } from '../model/query'
import { readyLast } from '../model/readyLast'
import { podName } from '../model/standing'
import { useNow, useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import { useUrl } from '../url/useUrl'
import { Loading, NothingMatches } from './EmptyPulls'
import { PodDetail } from './PodDetail'
import styles from './PodsView.module.css'
import { delayOf, POD_COLUMNS } from './podColumns'

export function PodsView() {
  const { pods, pulls, version, counts } = useSnapshot()
  const { query, sort, open } = useUrl()
  const now = useNow()
  const list = pods === 'missing' ? undefined : pods
  // The map of pulls is changed in place. `version` is incremented whenever its contents change;
  // estimates count down with `now`.
  const rows = useMemo(() => {
    const search = parseQuery(query, now)
    const shown = filtered(podRows(list?.pods ?? [], pulls, now), search, podFacts)
    return ordered(shown, sort, POD_ORDER, byTrouble)
  }, [list, pulls, version, now, query, sort])

  if (pods === 'missing' || list?.watching === false) return <NoAccess reason={list?.reason} />
  if (list === undefined || counts === undefined) return <Loading what="pods" />
  const missing = open.filter(key => !list.pods.some(({ uid }) => uid === key))
  const shown = new Set(rows.map(({ key }) => key))
  const hidden = list.pods.filter(({ uid }) => open.includes(uid) && !shown.has(uid))
  return (
    <>
      <MissingRows keys={missing} what="pod" why="It has started, or it was deleted." />
      <HiddenRows names={hidden.map(podName)} />
      <Last rows={rows} />
      <Table rows={rows} total={list.pods.length} />
    </>
  )
}

/** Identifies the image that pods will probably wait for longest, and explains why, in one line. */
function Last({ rows }: { readonly rows: readonly PodRow[] }) {
  const now = useNow()
  const before = useRef<string>(undefined)
  const found = readyLast(rows, before.current)
  before.current = found?.key
  if (found === undefined) return null
  const { row, seconds, isBound, pods, isNextShared, blind, stuck } = found
  const { pod, slowest } = row
  const image = shortName({ imageRef: slowest?.pull?.imageRef ?? slowest?.container.image ?? '' })
  const delay = isNextShared
    ? delayOf(row, now)
    : joined(', ', delayOf({ ...row, later: [] }, now), 'then their own images, not queued yet')
  const others = joined(
    ' ',
    blind > 0 && `${count(blind, 'pod')} without a reliable estimate may take longer.`,
    stuck > 0 && `Not included: ${count(stuck, 'failed or stalled pod')}.`,
  )
  return (
    <p className={shared.remark}>
      Ready last{others && ', as far as is known'}: {podName(pod)}
      {pods > 1 && ` and ${count(pods - 1, 'other pod')}`} on {pod.nodeName}, in{' '}
      {isBound ? 'more than about' : 'about'} {clock(Math.max(1, seconds))}.{' '}
      {pods > 1 ? 'They wait' : 'It waits'} for <b>{image}</b>: {joined(', ', row.state, delay)}. {others}
    </p>
  )
}

function Table({ rows, total }: { readonly rows: readonly PodRow[]; readonly total: number }) {
  const { sort } = useUrl()
  if (rows.length === 0 && total > 0) return <NothingMatches />
  if (rows.length === 0) {
    return (
      <Notice icon="done" title="No pod is waiting for an image">
        <p>Pods appear here while they wait for an image.</p>
      </Notice>
    )
  }
  return (
    <DataTable
      caption="Pods waiting for images"
      columns={POD_COLUMNS}
      className={styles.table}
      rows={rows}
      rowKey={({ key }) => key}
      rowLabel={label}
      rowClass={({ isStarted }) => (isStarted ? styles.over : undefined)}
      heading={({ isStarted }) => (isStarted ? startedHeading(sort) : undefined)}
      detail={row => <PodDetail row={row} />}
    />
  )
}

function label({ pod }: PodRow): string {
  return `${pod.namespace}/${pod.podName}: its containers`
}

function NoAccess({ reason }: { readonly reason: string | undefined }) {
  return (
    <Notice icon="lost" title="The server cannot see pods">
      {reason !== undefined && <code>{reason}</code>}
      <p>
        Pulls are still shown, but without their pods, failures and retries. The server reads pods and events
        from the Kubernetes API with its service account. Check its permission:
      </p>
      <code>kubectl auth can-i watch pods -A --as system:serviceaccount:pulltrace:pulltrace-server</code>
      <p>The Helm chart grants it by default.</p>
    </Notice>
  )
}

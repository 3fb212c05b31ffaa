import { useMemo } from 'react'
import { classes } from '../classes'
import { columnsFor, DataTable } from '../components/DataTable'
import { HiddenRows } from '../components/HiddenRows'
import { ImageLabel } from '../components/ImageLabel'
import { MissingRows } from '../components/MissingRows'
import { Name } from '../components/Name'
import { PullList } from '../components/PullList'
import { useDoneSince } from '../components/Tiles'
import { bytes, clock, count, timeOfDay } from '../model/format'
import { ordered } from '../model/order'
import { hasEnded } from '../model/pullState'
import { filtered, parseQuery } from '../model/query'
import {
  byRollout,
  IMAGE_ORDER,
  type ImageRow,
  imageFacts,
  imageRows,
  lateWords,
  rangeWords,
  unfinished,
} from '../model/rollout'
import { useNow, useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import { useUrl } from '../url/useUrl'
import { EmptyPulls } from './EmptyPulls'
import styles from './ImagesView.module.css'
import { Rollout } from './Rollout'

const column = columnsFor<ImageRow>(IMAGE_ORDER)
const dim = classes(shared.dim, shared.nowrap)

const COLUMNS = [
  column('image', 'Image', row => <Image row={row} />),
  column('rollout', 'Rollout', row => <Rollout row={row} />),
  column('pulling', 'Pulling', row => <Pulling row={row} />, 'end'),
  column('slowest', 'Waiting for', row => <WaitingFor row={row} />),
  column('nodes', 'Nodes', row => <Nodes row={row} />, 'end'),
  column(
    'size',
    'Size',
    ({ imageBytes }) => <span className={dim}>{imageBytes === 0 ? '–' : bytes(imageBytes)}</span>,
    'end',
  ),
  column('completed', 'Pulls', row => <span className={shared.figure}>{row.completed}</span>, 'end'),
  column('median', 'Median pull', ({ medianSeconds }) => <Seconds value={medianSeconds} />, 'end'),
  column('worst', 'Longest pull', row => <Longest row={row} />, 'end'),
]

/** On how many nodes the image is being pulled now, and how far these pulls are. */
function Pulling({ row }: { readonly row: ImageRow }) {
  if (row.pulling === 0) return <span className={shared.faint}>–</span>
  return (
    <>
      <span className={shared.nowrap}>{count(row.pulling, 'node')}</span>
      <span className={classes(shared.dim, shared.small, styles.percents)}>{rangeWords(row)}</span>
    </>
  )
}

/** How many nodes still need the image, or how many nodes there are if all of them have it. A rollout may reach more
 * nodes. */
function Nodes({ row }: { readonly row: ImageRow }) {
  const missing = unfinished(row)
  if (missing === 0) return <span className={dim}>{count(row.nodeCount, 'node')}</span>
  return (
    <span className={shared.dim}>
      <span className={shared.nowrap}>
        {missing} of {row.nodeCount} to go
      </span>
      {row.workload !== undefined && (
        <>
          {' '}
          <span className={shared.nowrap}>so far</span>
        </>
      )}
    </span>
  )
}

/** An image, and the workload that is rolling it out. */
function Image({ row: { imageRef, workload, since } }: { readonly row: ImageRow }) {
  return (
    <>
      <ImageLabel imageRef={imageRef} />
      {workload !== undefined && (
        <span className={classes(shared.cut, shared.small, styles.workload)} title={workload}>
          Rollout since {timeOfDay(since)}: {workload}
        </span>
      )}
    </>
  )
}

function Detail({ row: { pulls, waiting } }: { readonly row: ImageRow }) {
  return (
    <>
      {pulls.length > 0 && <PullList pulls={pulls} name="node" />}
      {waiting.length > 0 && (
        <p className={shared.dim}>
          A pod is waiting for this image on {waiting.join(', ')}, where the kubelet has not requested it yet.
        </p>
      )}
    </>
  )
}

function Seconds({ value }: { readonly value: number | undefined }) {
  return <span className={shared.figure}>{value === undefined ? '–' : clock(value)}</span>
}

/** The node that delays the rollout most, what it is doing, and how long this will take. */
function WaitingFor({ row: { last } }: { readonly row: ImageRow }) {
  const now = useNow()
  return (
    <span className={shared.dim}>
      <Name name={last?.node ?? '–'} />
      <span className={shared.small}>{last && lateWords(last, now)}</span>
    </span>
  )
}

/** The longest duration and the node on which it occurred. A pull that is still running will take longer than this. */
function Longest({ row: { longest, longestSeconds, nodeCount } }: { readonly row: ImageRow }) {
  const isRunning = longest !== undefined && !hasEnded(longest)
  return (
    <>
      {isRunning && <span title="still running">&gt; </span>}
      <Seconds value={longestSeconds} />
      {longest !== undefined && nodeCount > 1 && (
        <span className={shared.small}>
          <Name className={shared.dim} name={longest.nodeName} />
        </span>
      )}
    </>
  )
}

export function ImagesView() {
  const { pulls, pods, version, context, counts } = useSnapshot()
  const { query, sort, open } = useUrl()
  const since = useDoneSince()
  const list = pods === 'missing' ? undefined : pods
  // The map of pulls is changed in place. `version` is incremented whenever its contents change.
  const all = useMemo(
    () => imageRows(pulls.values(), list?.pods ?? [], context),
    [pulls, list, version, context],
  )
  const rows = useMemo(() => {
    const search = parseQuery(query, context.now)
    const shown = filtered(all, search, row => imageFacts(row, context))
    return ordered(shown, sort, IMAGE_ORDER, byRollout)
  }, [all, context, query, sort])
  const known = new Set(all.map(({ imageRef }) => imageRef))
  const missing = counts === undefined ? [] : open.filter(key => !known.has(key))
  return (
    <>
      <MissingRows keys={missing} what="image" why="Finished pulls are kept for a limited time." />
      <HiddenRows names={open.filter(key => known.has(key) && !rows.some(row => row.imageRef === key))} />
      {rows.length === 0 || counts === undefined ? (
        <EmptyPulls query={query} total={pulls.size} />
      ) : (
        <>
          {since !== undefined && (
            <p className={shared.remark}>
              Done and pulls cover the pulls completed since {timeOfDay(since)}, on all nodes. Median and
              longest cover those of them that downloaded something. A running pull that has already taken
              longer than the longest is shown with &gt;.
            </p>
          )}
          {rows.some(({ workload }) => workload !== undefined) && (
            <p className={shared.remark}>
              The node count of a rollout includes only the nodes where a pod already needs the image. The
              rollout may reach more nodes.
            </p>
          )}
          <DataTable
            caption="Images and their progress across the nodes"
            columns={COLUMNS}
            className={styles.table}
            rows={rows}
            rowKey={({ imageRef }) => imageRef}
            rowLabel={({ imageRef }) => `${imageRef}: its nodes`}
            detail={row => <Detail row={row} />}
          />
        </>
      )}
    </>
  )
}

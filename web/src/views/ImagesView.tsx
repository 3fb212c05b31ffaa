import { useMemo } from 'react'
import { classes } from '../classes'
import { columnsFor, DataTable } from '../components/DataTable'
import { ImageLabel } from '../components/ImageLabel'
import { MissingRows } from '../components/MissingRows'
import { Name } from '../components/Name'
import { PullList } from '../components/PullList'
import { bytes, clock, count } from '../model/format'
import { ordered } from '../model/order'
import { isEmpty, matches, parseQuery } from '../model/query'
import { byRollout, IMAGE_ORDER, type ImageRow, imageFacts, imageRows, unfinished } from '../model/rollout'
import { useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import { toggleOpen } from '../url/urlState'
import { changeUrl, useUrl } from '../url/useUrl'
import { EmptyPulls } from './EmptyPulls'
import styles from './ImagesView.module.css'
import { Rollout } from './Rollout'

const column = columnsFor<ImageRow>(IMAGE_ORDER)
const dim = classes(shared.dim, shared.nowrap)

const COLUMNS = [
  column('image', 'Image', ({ imageRef }) => <ImageLabel imageRef={imageRef} />),
  column('rollout', 'Rollout', row => <Rollout row={row} />),
  column('slowest', 'Slowest node', ({ slowest }) => <Name className={shared.dim} name={slowest ?? '–'} />),
  column('nodes', 'Nodes', row => <span className={dim}>{nodesWords(row)}</span>, 'end'),
  column(
    'size',
    'Size',
    ({ imageBytes }) => <span className={dim}>{imageBytes === 0 ? '–' : bytes(imageBytes)}</span>,
    'end',
  ),
  column('median', 'Median', ({ medianSeconds }) => <Seconds value={medianSeconds} />, 'end'),
  column('worst', 'Worst', ({ worstSeconds }) => <Seconds value={worstSeconds} />, 'end'),
]

/** How many nodes still need the image; if none do, how many nodes have it. */
function nodesWords(row: ImageRow): string {
  const missing = unfinished(row)
  return missing === 0 ? count(row.nodeCount, 'node') : `${missing} of ${row.nodeCount} to go`
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

export function ImagesView() {
  const { pulls, pods, version, context, counts } = useSnapshot()
  const { query, sort, open } = useUrl()
  const list = pods === 'missing' ? undefined : pods
  // `version` increases when something in the map changes.
  const all = useMemo(
    () => imageRows(pulls.values(), list?.pods ?? [], context),
    [pulls, list, version, context],
  )
  const rows = useMemo(() => {
    const search = parseQuery(query)
    const shown = isEmpty(search) ? [...all] : all.filter(row => matches(search, imageFacts(row, context)))
    return ordered(shown, sort, IMAGE_ORDER, byRollout)
  }, [all, context, query, sort])
  const known = new Set(all.map(({ imageRef }) => imageRef))
  const missing = counts === undefined ? [] : open.filter(key => !known.has(key))
  return (
    <>
      <MissingRows keys={missing} what="image" why="Its pulls ended some time ago." />
      {rows.length === 0 || counts === undefined ? (
        <EmptyPulls query={query} total={pulls.size} />
      ) : (
        <DataTable
          caption="Images and their progress across the nodes"
          columns={COLUMNS}
          className={styles.table}
          rows={rows}
          rowKey={({ imageRef }) => imageRef}
          rowLabel={({ imageRef }) => `${imageRef}: its nodes`}
          sort={sort}
          onSort={next => changeUrl({ sort: next })}
          open={open}
          onToggle={key => changeUrl({ open: toggleOpen(open, key) })}
          detail={row => <Detail row={row} />}
        />
      )}
    </>
  )
}

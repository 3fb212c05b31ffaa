import { useMemo } from 'react'
import { type Column, DataTable } from '../components/DataTable'
import { ImageLabel } from '../components/ImageLabel'
import { PullList } from '../components/PullList'
import { bytes, clock, count } from '../format'
import { ordered } from '../pullRows'
import { isEmpty, matches, parseQuery } from '../query'
import { byRollout, factsOf, IMAGE_ORDER, type ImageRow, imageRows } from '../rollout'
import { useSnapshot } from '../store/useStore'
import { toggleOpen } from '../urlState'
import { changeUrl, useUrl } from '../useUrl'
import { EmptyPulls } from './EmptyPulls'
import styles from './ImagesView.module.css'
import { Rollout } from './Rollout'

function column(
  key: string,
  title: string,
  cell: (row: ImageRow) => React.ReactNode,
  align?: 'end',
): Column<ImageRow> {
  const compare = IMAGE_ORDER[key]
  return {
    key,
    title,
    cell,
    ...(align !== undefined && { align }),
    ...(compare !== undefined && { compare }),
  }
}

const COLUMNS: readonly Column<ImageRow>[] = [
  column('image', 'Image', ({ imageRef }) => <ImageLabel imageRef={imageRef} />),
  column('rollout', 'Rollout', row => <Rollout row={row} />),
  column('slowest', 'Slowest node', ({ slowest }) => (
    <bdi className={styles.node}>{slowest?.nodeName ?? '–'}</bdi>
  )),
  column(
    'nodes',
    'Nodes',
    ({ pulls }) => <span className={styles.dim}>{count(pulls.length, 'node')}</span>,
    'end',
  ),
  column(
    'size',
    'Size',
    ({ imageBytes }) => <span className={styles.dim}>{imageBytes === 0 ? '–' : bytes(imageBytes)}</span>,
    'end',
  ),
  column('median', 'Median', ({ medianSeconds }) => <Seconds value={medianSeconds} />, 'end'),
  column('worst', 'Worst', ({ worstSeconds }) => <Seconds value={worstSeconds} />, 'end'),
]

function Seconds({ value }: { readonly value: number | undefined }) {
  return <span className={styles.figure}>{value === undefined ? '–' : clock(value)}</span>
}

export function ImagesView() {
  const { pulls, version } = useSnapshot()
  const { query, sort, open } = useUrl()
  // `version` says that something in the same map has changed.
  const rows = useMemo(() => {
    const asked = parseQuery(query)
    const all = [...imageRows(pulls.values())]
    const shown = isEmpty(asked) ? all : all.filter(row => matches(asked, factsOf(row.pulls)))
    return ordered(shown, sort, IMAGE_ORDER, byRollout)
  }, [pulls, version, query, sort])
  if (rows.length === 0) return <EmptyPulls query={query} total={pulls.size} />
  return (
    <DataTable
      caption="Images and how far they are rolled out"
      columns={COLUMNS}
      className={styles.table}
      rows={rows}
      rowKey={({ imageRef }) => imageRef}
      rowLabel={({ imageRef }) => `${imageRef}: its nodes`}
      sort={sort}
      onSort={next => changeUrl({ sort: next })}
      open={open}
      onToggle={key => changeUrl({ open: toggleOpen(open, key) })}
      detail={({ pulls: ofImage }) => <PullList pulls={ofImage} name="node" />}
    />
  )
}

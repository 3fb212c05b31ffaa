import type { Column } from '../components/DataTable'
import { ImageLabel } from '../components/ImageLabel'
import { State } from '../components/StateLabel'
import { clock, duration } from '../format'
import { type ContainerRowState, POD_ORDER, type PodRow } from '../podRows'
import { useNow } from '../store/useStore'
import styles from './PodsView.module.css'

export function ContainerState({ state }: { readonly state: ContainerRowState }) {
  return state === 'waiting' ? <span className={styles.waiting}>Waiting</span> : <State state={state} />
}

function Since({ at }: { readonly at: number | undefined }) {
  const now = useNow()
  return <span className={styles.waiting}>{at === undefined ? '–' : duration((now - at) / 1000)}</span>
}

function SlowestImage({ row }: { readonly row: PodRow }) {
  const others = row.containers.length - 1
  return (
    <span className={styles.image}>
      <ImageLabel imageRef={row.slowest?.pull?.imageRef ?? row.slowest?.container.image ?? ''} />
      {others > 0 && <span className={styles.more}>+{others}</span>}
    </span>
  )
}

function column(
  key: string,
  title: string,
  cell: (row: PodRow) => React.ReactNode,
  align?: 'end',
): Column<PodRow> {
  const compare = POD_ORDER[key]
  return {
    key,
    title,
    cell,
    ...(align !== undefined && { align }),
    ...(compare !== undefined && { compare }),
  }
}

export const POD_COLUMNS: readonly Column<PodRow>[] = [
  column('state', 'State', row => <ContainerState state={row.state} />),
  column('pod', 'Pod', ({ pod }) => (
    <span className={styles.name} title={`${pod.namespace}/${pod.podName}`}>
      <bdi className={styles.namespace}>{pod.namespace}/</bdi>
      <bdi>{pod.podName}</bdi>
    </span>
  )),
  column('owner', 'Owner', ({ pod }) => <bdi className={styles.quiet}>{pod.owner ?? '–'}</bdi>),
  column('node', 'Node', ({ pod }) => <bdi className={styles.quiet}>{pod.nodeName || '–'}</bdi>),
  column('image', 'Slowest image', row => <SlowestImage row={row} />),
  column('waiting', 'Waits', ({ pod }) => <Since at={pod.waitingSince} />, 'end'),
  column(
    'ready',
    'Ready in',
    row => (
      <span className={styles.figure}>{row.etaSeconds === undefined ? '–' : clock(row.etaSeconds)}</span>
    ),
    'end',
  ),
]

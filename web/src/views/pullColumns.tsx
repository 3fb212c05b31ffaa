import type { Column } from '../components/DataTable'
import { ImageLabel } from '../components/ImageLabel'
import { ProgressBar } from '../components/ProgressBar'
import { StateLabel } from '../components/StateLabel'
import { bytes, clock, count, ofTotal, percent, rate } from '../format'
import { PULL_ORDER } from '../pullRows'
import { averageRate, hasEnded, knownPercent, progressUnavailable, tookSeconds } from '../pullState'
import { useNow } from '../store/useStore'
import type { Pull } from '../wire'
import styles from './PullsView.module.css'

type Cell = { readonly pull: Pull }

function Progress({ pull }: Cell) {
  // All bytes of a failed pull may be here, and yet nothing is ready.
  const all = pull.status === 'failed' && pull.percent >= 100
  const figure = all ? 'not unpacked' : progressUnavailable(pull) ? 'unknown' : percent(knownPercent(pull))
  return (
    <span className={styles.progress}>
      <ProgressBar pull={pull} />
      <span className={styles.percent}>{figure}</span>
    </span>
  )
}

function Speed({ pull }: Cell) {
  const average = pull.status === 'completed' ? averageRate(pull) : undefined
  if (average !== undefined)
    return (
      <span className={styles.faint} title="on average">
        {rate(average)}
      </span>
    )
  if (pull.status !== 'downloading') return <span className={styles.faint}>–</span>
  return <span className={styles.figure}>{rate(pull.bytesPerSec)}</span>
}

function Size({ pull }: Cell) {
  if (pull.totalBytes === 0) return <>{pull.cachedBytes > 0 ? 'cached' : '–'}</>
  return (
    <>
      {hasEnded(pull) && pull.status === 'completed'
        ? bytes(pull.totalBytes)
        : ofTotal(pull.downloadedBytes, pull.totalBytes)}
    </>
  )
}

function TimeLeft({ pull }: Cell) {
  if (pull.status === 'completed')
    return <span className={styles.faint}>{clock(tookSeconds(pull) ?? 0)}</span>
  if (pull.nextRetryAt !== undefined && pull.status === 'failed') return <Retry at={pull.nextRetryAt} />
  if (pull.etaSeconds === undefined) return <span className={styles.faint}>–</span>
  return <span className={styles.left}>{clock(pull.etaSeconds)}</span>
}

function Retry({ at }: { readonly at: number }) {
  const now = useNow()
  return (
    <span className={styles.retry}>{at > now ? `retry in ${clock((at - now) / 1000)}` : 'retry due'}</span>
  )
}

/** Sortable by what it shows. */
function column(
  key: string,
  title: string,
  cell: (pull: Pull) => React.ReactNode,
  align?: 'end',
): Column<Pull> {
  const compare = PULL_ORDER[key]
  return {
    key,
    title,
    cell,
    ...(align !== undefined && { align }),
    ...(compare !== undefined && { compare }),
  }
}

export const PULL_COLUMNS: readonly Column<Pull>[] = [
  column('state', 'State', pull => <StateLabel pull={pull} />),
  column('image', 'Image', pull => <ImageLabel imageRef={pull.imageRef} guessed={pull.refGuessed} />),
  column('node', 'Node', pull => (
    <bdi className={styles.node} title={pull.nodeName}>
      {pull.nodeName}
    </bdi>
  )),
  column('pods', 'Pods', pull => (
    <span className={styles.dim}>{pull.pods.length === 0 ? '–' : count(podCount(pull), 'pod')}</span>
  )),
  column('progress', 'Progress', pull => <Progress pull={pull} />),
  column('speed', 'Speed', pull => <Speed pull={pull} />, 'end'),
  column('size', 'Size', pull => <Size pull={pull} />, 'end'),
  column('left', 'Time left', pull => <TimeLeft pull={pull} />, 'end'),
]

function podCount(pull: Pull): number {
  return new Set(pull.pods.map(({ namespace, podName }) => `${namespace}/${podName}`)).size
}

import { classes } from '../classes'
import { columnsFor } from '../components/DataTable'
import { ImageLabel } from '../components/ImageLabel'
import { Name } from '../components/Name'
import { ProgressBar } from '../components/ProgressBar'
import { Reason } from '../components/Reason'
import { StateLabel } from '../components/StateLabel'
import { QueueTime, TimeLeft } from '../components/TimeLeft'
import { failingAnywhere, firstRetry, imageCount } from '../model/failureGroups'
import { bytes, count, ofTotal, rate } from '../model/format'
import { limitWord } from '../model/limit'
import { wasQueued } from '../model/moment'
import { PULL_ORDER, type PullRow } from '../model/pullRows'
import { hasEnded, hasFailed, progressFigure, pullState, shownRate } from '../model/pullState'
import { waitedNames } from '../model/standing'
import { useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import type { Pull } from '../wire/wire'
import styles from './PullsView.module.css'

/** A table row and the current state of its pulls. */
export interface ShownRow extends PullRow {
  readonly pull: Pull
  readonly pulls: readonly Pull[]
  /** The past moment for which the page lists pulls. The pull's current values do not apply to that moment. */
  readonly moment: number | undefined
}

type Cell = { readonly row: ShownRow }

function State({ row: { pull, pulls, standing, moment } }: Cell) {
  const { context } = useSnapshot()
  const then = moment === undefined ? undefined : wasQueued(pull, moment) ? 'queued then' : 'running then'
  return (
    <StateLabel pull={pull} pulls={failingAnywhere(pulls, context)} note={then} muted={standing === 'past'} />
  )
}

function Image({ row: { pull, pulls, key } }: Cell) {
  const images = imageCount(pulls)
  if (images === 1) return <ImageLabel imageRef={pull.imageRef} guessed={pull.refGuessed} />
  return (
    <span className={shared.code}>
      <bdi>{key.split('/')[1]}</bdi> <span className={shared.dim}>{count(images, 'image')}</span>
    </span>
  )
}

function Node({ row: { pull, pulls } }: Cell) {
  const nodes = new Set(pulls.map(({ nodeName }) => nodeName))
  if (nodes.size === 1) return <Name className={shared.dim} name={pull.nodeName} />
  return (
    <span className={classes(shared.code, shared.dim)} title={[...nodes].slice(0, 20).join(', ')}>
      {count(nodes.size, 'node')}
    </span>
  )
}

function Pods({ row: { waiters, pull, moment } }: Cell) {
  const { context } = useSnapshot()
  const gone = pullState(pull) === 'cancelled' && moment === undefined ? waitedNames(pull, context) : ''
  if (waiters === 0 && gone !== '')
    return (
      <span
        className={classes(shared.dim, shared.cut)}
        title={`${gone} waited for it; no pod is waiting any more`}
      >
        none left
      </span>
    )
  return (
    <span className={classes(shared.dim, shared.nowrap)}>{waiters === 0 ? '–' : count(waiters, 'pod')}</span>
  )
}

function Progress({ row: { pull, pulls, place, standing, blocked } }: Cell) {
  if (hasFailed(pull) || (standing === 'failing' && pulls.length > 1)) {
    return (
      <span className={standing === 'failing' ? shared.failed : shared.dim}>
        <Reason pull={pull} pulls={pulls} />
      </span>
    )
  }
  const word = limitWord(pull, place)
  // There is nothing to show in the bar yet.
  if (pull.status === 'queued') return <span className={shared.dim}>{word}</span>
  if (pulls.length > 1) return <span className={styles.limit}>pulled {pulls.length} times, latest shown</span>
  if (pull.status === 'completed') return <span className={styles.limit}>{word}</span>
  return (
    <span className={styles.progress}>
      <ProgressBar pull={pull} />
      <span className={styles.percent}>{progressFigure(pull) || '–'}</span>
      {(blocked || word) && (
        <span className={classes(styles.limit, blocked && styles.blocking)}>{blocked || word}</span>
      )}
    </span>
  )
}

function Speed({ row: { pull, moment } }: Cell) {
  const speed = moment === undefined || hasEnded(pull) ? shownRate(pull) : undefined
  if (speed === undefined) return <span className={shared.faint}>–</span>
  return pull.status === 'completed' ? (
    <span className={shared.dim} title="on average while downloading">
      {rate(speed)}
    </span>
  ) : (
    <span className={shared.figure}>{rate(speed)}</span>
  )
}

function Size({ row: { pull } }: Cell) {
  return <span className={classes(shared.dim, shared.nowrap)}>{sizeWords(pull)}</span>
}

function sizeWords(pull: Pull): string {
  if (pull.totalBytes === 0 && pull.remoteBytes > 0) return 'streamed'
  if (pull.totalBytes === 0) return pull.cachedBytes > 0 ? 'cached' : '–'
  return hasEnded(pull) && pull.status === 'completed'
    ? bytes(pull.totalBytes)
    : ofTotal(pull.downloadedBytes, pull.totalBytes)
}

/** A failure shows the time until its next retry. A group of failures shows the shortest of these times. */
function Left({ row: { pull, pulls, standing, place, moment } }: Cell) {
  if (moment !== undefined && !hasEnded(pull)) return <span className={shared.faint}>–</span>
  if (place !== undefined) return <QueueTime pull={pull} place={place} />
  const shown = standing === 'failing' ? firstRetry(pulls) : pull
  return shown === undefined ? <span className={shared.faint}>–</span> : <TimeLeft pull={shown} />
}

const column = columnsFor<ShownRow>(PULL_ORDER)

export const PULL_COLUMNS = [
  column('state', 'State', row => <State row={row} />),
  column('image', 'Image', row => <Image row={row} />),
  column('node', 'Node', row => <Node row={row} />),
  column('pods', 'Pods', row => <Pods row={row} />, 'start'),
  column('progress', 'Progress', row => <Progress row={row} />, 'start'),
  column('speed', 'Speed', row => <Speed row={row} />, 'end'),
  column('size', 'Size', row => <Size row={row} />, 'end'),
  column('left', 'Time left', row => <Left row={row} />, 'end'),
]

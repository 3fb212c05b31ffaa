import { classes } from '../classes'
import { columnsFor } from '../components/DataTable'
import { ImageLabel } from '../components/ImageLabel'
import { Name } from '../components/Name'
import { Reason } from '../components/Reason'
import { State } from '../components/StateLabel'
import { Bound, TimeLeft } from '../components/TimeLeft'
import { ago, clock, count, duration, joined, soon } from '../model/format'
import { delayWords, shortName } from '../model/limit'
import { type ContainerRow, hasImages, POD_ORDER, type PodRow } from '../model/podRows'
import { hasFailed } from '../model/pullState'
import { positionWords } from '../model/queue'
import { nextOf } from '../model/readyLast'
import { startWords } from '../model/startPhases'
import { useNow } from '../store/useStore'
import shared from '../styles/shared.module.css'
import styles from './PodsView.module.css'

export function ContainerState({ state, pull }: Pick<ContainerRow, 'state' | 'pull'>) {
  return state === 'waiting' ? (
    <span className={shared.dim}>Waiting</span>
  ) : (
    <State state={state} pull={pull} />
  )
}

function PodState({ row }: { readonly row: PodRow }) {
  const now = useNow()
  if (hasImages(row)) return <span className={shared.dim}>Images ready</span>
  return row.isStarted ? (
    <span className={shared.dim}>Started {ago((now - (row.pod.startedAt ?? now)) / 1000)}</span>
  ) : (
    <ContainerState state={row.state} pull={row.slowest?.pull} />
  )
}

/** `1:50`; more coarsely from one hour: `2 h 5 min`. */
const waitWords = (seconds: number): string => (seconds < 3600 ? clock(seconds) : duration(seconds))

/** How long a pod has been waiting for images, or how long a started pod waited for them. */
function Wait({ row: { pod, imageSeconds } }: { readonly row: PodRow }) {
  const now = useNow()
  const waits = pod.waitingSince === undefined ? '–' : waitWords((now - pod.waitingSince) / 1000)
  return <span className={shared.dim}>{imageSeconds === undefined ? waits : clock(imageSeconds)}</span>
}

function SlowestImage({ row }: { readonly row: PodRow }) {
  if (row.isStarted) return <span className={shared.dim}>{startWords(row)}</span>
  const others = row.containers.length - 1
  return (
    <>
      <span className={styles.image}>
        <ImageLabel imageRef={row.slowest?.pull?.imageRef ?? row.slowest?.container.image ?? ''} />
        {others > 0 && <span className={styles.more}>+{others}</span>}
      </span>
      <Delay row={row} />
    </>
  )
}

/** The cause of a failure, or an explanation of the delay. */
function Delay({ row }: { readonly row: PodRow }) {
  const now = useNow()
  const { pull, state } = row.slowest ?? {}
  const isFailed = pull !== undefined && hasFailed(pull)
  const words = isFailed ? undefined : delayOf(row, now)
  return (
    <span
      className={classes(styles.delay, isFailed && state !== undefined ? shared[state] : shared.dim)}
      title={words}
    >
      {isFailed ? <Reason pull={pull} /> : words}
    </span>
  )
}

/** Lists the pulls ahead in the queue or the factor that delays the pull, explains a missing estimate, and identifies
 * the image that will be pulled next. */
export function delayOf(row: PodRow, now: number): string {
  if (hasImages(row)) return 'all images are on the node; the containers have not started yet'
  const { slowest } = row
  const { pull, place } = slowest ?? {}
  const delay = pull === undefined ? '' : delayWords(pull, place, now)
  return joined(', ', delay, laterWords(row))
}

/** `then library/alpine:3.23, not queued yet` */
function laterWords(row: PodRow): string {
  const next = nextOf(row)
  if (next === undefined) return ''
  if (next === row.slowest) return 'not queued yet'
  return `then ${shortName({ imageRef: next.container.image })}, not queued yet`
}

/** The time until the pod is ready, or until the next retry. If part of this time is unknown, the result is a lower
 * bound. The line below it shows the pod's place in the queue, or how many images are not queued yet. */
function Ready({ row }: { readonly row: PodRow }) {
  const now = useNow()
  const { slowest, later, etaSeconds, etaAtLeast = 0, state } = row
  const isOver =
    (state === 'done' || state === 'failed' || state === 'cancelled') && slowest?.place === undefined
  if (slowest?.pull?.nextRetryAt !== undefined && state !== 'done') return <TimeLeft pull={slowest.pull} />
  if (isOver) return <span className={shared.faint}>–</span>
  const place = slowest?.place === undefined ? '' : positionWords(slowest.place)
  return (
    <>
      {etaSeconds !== undefined ? (
        <span className={shared.figure}>{soon(etaSeconds)}</span>
      ) : (
        <Bound seconds={etaAtLeast} why={delayOf(row, now)} />
      )}
      <span className={styles.place}>
        {later.length > 0 ? `${count(later.length, 'image')} later` : place}
      </span>
    </>
  )
}

const column = columnsFor<PodRow>(POD_ORDER)

export const POD_COLUMNS = [
  column('state', 'State', row => <PodState row={row} />),
  column('pod', 'Pod', ({ pod }) => <Name before={`${pod.namespace}/`} name={pod.podName} />),
  column('owner', 'Owner', ({ pod }) => <Name className={shared.dim} name={pod.owner ?? '–'} />),
  column('node', 'Node', ({ pod }) => <Name className={shared.dim} name={pod.nodeName || '–'} />),
  column('image', 'Slowest image', row => <SlowestImage row={row} />),
  column('waiting', 'Waits', row => <Wait row={row} />, 'end'),
  column('ready', 'Ready in', row => <Ready row={row} />, 'end'),
]

import { classes } from '../classes'
import { columnsFor } from '../components/DataTable'
import { ImageLabel } from '../components/ImageLabel'
import { Reason } from '../components/Reason'
import { State } from '../components/StateLabel'
import { TimeLeft } from '../components/TimeLeft'
import { clock, duration } from '../model/format'
import { delayWord } from '../model/limit'
import {
  type ContainerRow,
  type ContainerRowState,
  POD_ORDER,
  type PodRow,
  phaseSteps,
} from '../model/podRows'
import { earliestStart, ordinal } from '../model/queue'
import { useNow } from '../store/useStore'
import shared from '../styles/shared.module.css'
import styles from './PodsView.module.css'

export function ContainerState({ state }: { readonly state: ContainerRowState }) {
  return state === 'waiting' ? <span className={shared.dim}>Waiting</span> : <State state={state} />
}

function PodState({ row }: { readonly row: PodRow }) {
  return row.isStarted ? <span className={shared.dim}>Started</span> : <ContainerState state={row.state} />
}

function Since({ row: { pod, isStarted } }: { readonly row: PodRow }) {
  const now = useNow()
  if (isStarted) return <span className={shared.dim}>took {clock(pod.tookSeconds ?? 0)}</span>
  const since = pod.waitingSince
  return <span className={shared.dim}>{since === undefined ? '–' : duration((now - since) / 1000)}</span>
}

/** A started pod no longer waits for an image, so its longest phase is shown instead. */
function LongestPhase({ row }: { readonly row: PodRow }) {
  const now = useNow()
  const [longest] = [...phaseSteps(row.pod, now)].sort((a, b) => b.seconds - a.seconds)
  if (longest === undefined) return <span className={shared.faint}>–</span>
  return (
    <span className={shared.dim}>
      longest: {longest.phase} {clock(longest.seconds)}
    </span>
  )
}

function SlowestImage({ row }: { readonly row: PodRow }) {
  if (row.isStarted) return <LongestPhase row={row} />
  const others = row.containers.length - 1
  return (
    <>
      <span className={styles.image}>
        <ImageLabel imageRef={row.slowest?.pull?.imageRef ?? row.slowest?.container.image ?? ''} />
        {others > 0 && <span className={styles.more}>+{others}</span>}
      </span>
      <Delay slowest={row.slowest} />
    </>
  )
}

/** The cause of a failure, or the factor that delays the pull. */
function Delay({ slowest }: { readonly slowest: ContainerRow | undefined }) {
  const { pull, place, state } = slowest ?? {}
  if (pull === undefined || state === undefined) return null
  const isFailed = pull.status === 'failed'
  return (
    <span className={classes(styles.delay, isFailed ? shared[state] : shared.dim)}>
      {isFailed ? <Reason pull={pull} /> : delayWord(pull, place)}
    </span>
  )
}

function Ready({ row }: { readonly row: PodRow }) {
  if (row.etaSeconds !== undefined) return <span className={shared.figure}>{clock(row.etaSeconds)}</span>
  if (row.isStarted) return <span className={shared.faint}>–</span>
  const pull = row.slowest?.pull
  if (pull?.nextRetryAt !== undefined) return <TimeLeft pull={pull} />
  return <Unknown slowest={row.slowest} />
}

/** Without an estimate: the place in the queue, and the earliest start of the pull. */
function Unknown({ slowest }: { readonly slowest: ContainerRow | undefined }) {
  const now = useNow()
  const place = slowest?.place
  if (place === undefined || place.ahead.length === 0) return <span className={shared.faint}>–</span>
  const start = earliestStart(place, now)
  return (
    <span className={classes(shared.dim, shared.small)} title="place in the queue of the node">
      {ordinal(place.position)} in queue
      {start !== undefined && <span className={styles.start}>&gt; {clock(start)}</span>}
    </span>
  )
}

const column = columnsFor<PodRow>(POD_ORDER)

export const POD_COLUMNS = [
  column('state', 'State', row => <PodState row={row} />),
  column('pod', 'Pod', ({ pod }) => (
    <span className={shared.code} title={`${pod.namespace}/${pod.podName}`}>
      <bdi className={shared.dim}>{pod.namespace}/</bdi>
      <bdi>{pod.podName}</bdi>
    </span>
  )),
  column('owner', 'Owner', ({ pod }) => (
    <bdi className={classes(shared.code, shared.dim)}>{pod.owner ?? '–'}</bdi>
  )),
  column('node', 'Node', ({ pod }) => (
    <bdi className={classes(shared.code, shared.dim)}>{pod.nodeName || '–'}</bdi>
  )),
  column('image', 'Slowest image', row => <SlowestImage row={row} />),
  column('waiting', 'Waits', row => <Since row={row} />, 'end'),
  column('ready', 'Ready in', row => <Ready row={row} />, 'end'),
]

import { classes } from '../classes'
import { DescribePod } from '../components/DescribePod'
import { ImageLabel } from '../components/ImageLabel'
import { clock, exactTime, joined, percent, secondOfDay } from '../model/format'
import type { ContainerRow, PodRow } from '../model/podRows'
import { positionWords } from '../model/queue'
import { phaseSteps } from '../model/startPhases'
import { useNow } from '../store/useStore'
import shared from '../styles/shared.module.css'
import { showPull } from '../url/useUrl'
import styles from './PodsView.module.css'
import { ContainerState } from './podColumns'

const KIND_WORD = {
  init: 'init container',
  app: 'container',
  ephemeral: 'ephemeral container',
  volume: 'image volume',
} as const

export function PodDetail({ row }: { readonly row: PodRow }) {
  const { owner, nodeName } = row.pod
  return (
    <>
      <div className={styles.top}>
        <span>{joined(' · ', owner, nodeName === '' ? 'not yet on a node' : `on ${nodeName}`)}</span>
        <DescribePod pod={row.pod} />
      </div>
      <Steps row={row} />
      <ul className={styles.containers}>
        {row.containers.map(one => (
          <ContainerLine key={`${one.container.kind}/${one.container.container}`} row={one} />
        ))}
      </ul>
    </>
  )
}

/** Shows the phases of the pod's start-up on one line with their durations, so that a slow phase stands out. */
function Steps({ row }: { readonly row: PodRow }) {
  const now = useNow()
  const steps = phaseSteps(row, now)
  if (steps.length === 0) return null
  const longest = Math.max(...steps.map(({ seconds }) => seconds))
  return (
    <ol className={styles.steps} aria-label="Start-up phases">
      {steps.map(({ name, startedAt, seconds }) => (
        <li key={name} className={classes(styles.step, seconds === longest && longest > 0 && styles.long)}>
          <span className={shared.dim}>{name}</span>
          <time dateTime={new Date(startedAt).toISOString()} title={exactTime(startedAt)}>
            {secondOfDay(startedAt)}
            <span className={shared.dim}> · {clock(seconds)}</span>
          </time>
        </li>
      ))}
    </ol>
  )
}

function ContainerLine({ row }: { readonly row: ContainerRow }) {
  const { container, pull, state, place } = row
  const queued = place === undefined ? undefined : positionWords(place)
  const left = row.etaSeconds === undefined ? queued : clock(row.etaSeconds)
  const isNotQueued = pull === undefined && state === 'waiting'
  return (
    <li className={styles.container}>
      <ContainerState state={state} pull={pull} />
      <span className={shared.code} title={KIND_WORD[container.kind]}>
        <bdi>{container.container}</bdi>{' '}
        {container.kind !== 'app' && <span className={shared.dim}>{container.kind}</span>}
      </span>
      <ImageLabel imageRef={pull?.imageRef ?? container.image} />
      <span className={styles.end}>{percent(row.percent)}</span>
      <span className={styles.end}>{left}</span>
      {pull === undefined ? (
        <span className={shared.dim}>{isNotQueued ? 'not queued yet' : container.waitingReason}</span>
      ) : (
        <button type="button" className={styles.link} onClick={() => showPull(pull)}>
          layers
        </button>
      )}
      {container.error !== undefined && <p className={styles.error}>{container.error}</p>}
    </li>
  )
}

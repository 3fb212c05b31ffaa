import { classes } from '../classes'
import { ago, duration, exactTime } from '../model/format'
import { type PullState, pullState, STATE_MEANING, STATE_WORD } from '../model/pullState'
import { useNow } from '../store/useStore'
import shared from '../styles/shared.module.css'
import type { Pull } from '../wire/wire'
import { Icon } from './Icon'
import styles from './StateLabel.module.css'

interface Props {
  readonly pull: Pull
  /** A failed pull that no pod waits for is history and has no alarming colour. */
  readonly muted?: boolean
}

export function StateLabel({ pull, muted = false }: Props) {
  const state = pullState(pull)
  const since = state === 'stalled' ? pull.stalledSince : state === 'queued' ? pull.startedAt : undefined
  return (
    <State state={state} muted={muted}>
      {since !== undefined && <Since at={since} />}
      {pull.completedAt !== undefined && <Ended at={pull.completedAt} />}
    </State>
  )
}

export function State({
  state,
  muted = false,
  children,
}: {
  readonly state: PullState
  readonly muted?: boolean
  readonly children?: React.ReactNode
}) {
  return (
    <span className={classes(styles.state, muted ? shared.dim : shared[state])} title={STATE_MEANING[state]}>
      <Icon name={state} />
      <span>
        {STATE_WORD[state]}
        {children}
      </span>
    </span>
  )
}

function Since({ at }: { readonly at: number }) {
  const now = useNow()
  return <> {duration((now - at) / 1000)}</>
}

function Ended({ at }: { readonly at: number }) {
  const now = useNow()
  return (
    <time className={styles.ended} dateTime={new Date(at).toISOString()} title={exactTime(at)}>
      {' '}
      {ago((now - at) / 1000)}
    </time>
  )
}

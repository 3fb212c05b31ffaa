import { classes } from '../classes'
import { failingSince } from '../model/failureGroups'
import { ago, duration, exactTime } from '../model/format'
import {
  isFailingRetry,
  isRetry,
  type PullState,
  pullState,
  STATE_MEANING,
  STATE_WORD,
  stateWord,
} from '../model/pullState'
import { useNow } from '../store/useStore'
import shared from '../styles/shared.module.css'
import type { Pull } from '../wire/wire'
import { Icon } from './Icon'
import styles from './StateLabel.module.css'

interface Props {
  readonly pull: Pull
  /** All pulls that are failing for the same reason. The label shows how long the longest of these failures has
   * lasted. */
  readonly pulls?: readonly Pull[]
  /** Shown in place of the time since the pull ended. */
  readonly note?: string | undefined
  /** Whether to show a failed pull in a neutral colour. True if no pod is waiting for it. */
  readonly muted?: boolean
}

export function StateLabel({ pull, pulls = [pull], note, muted = false }: Props) {
  const state = pullState(pull)
  if (note !== undefined)
    return (
      <State state={state} pull={pull} muted={muted}>
        <span className={styles.ended}>{note}</span>
      </State>
    )
  const failing = muted || !(state === 'failed' || isRetry(pull)) ? undefined : failingSince(pulls)
  const since = state === 'stalled' ? pull.stalledSince : state === 'queued' ? pull.startedAt : undefined
  return (
    <State state={state} pull={pull} muted={muted}>
      {failing !== undefined ? (
        <>
          {state !== 'failed' && ','}
          <Ended at={failing} before={state === 'failed' ? 'for' : 'failing for'} />
        </>
      ) : (
        <>
          {since !== undefined && <Since at={since} />}
          {pull.completedAt !== undefined && <Ended at={pull.completedAt} />}
        </>
      )}
    </State>
  )
}

export function State({
  state,
  pull,
  muted = false,
  children,
}: {
  readonly state: PullState
  readonly pull?: Pull | undefined
  readonly muted?: boolean
  readonly children?: React.ReactNode
}) {
  const look = shared[pull !== undefined && isFailingRetry(pull) ? 'failed' : state]
  return (
    <span className={classes(styles.state, muted ? shared.dim : look)} title={STATE_MEANING[state]}>
      <Icon name={state} />
      <span>
        {pull === undefined ? STATE_WORD[state] : stateWord(pull)}
        {children}
      </span>
    </span>
  )
}

function Since({ at }: { readonly at: number }) {
  const now = useNow()
  return <> {duration((now - at) / 1000)}</>
}

/** How long ago the pull ended. If `before` is given, shows that text and how long the image has been failing. */
function Ended({ at, before }: { readonly at: number; readonly before?: string }) {
  const now = useNow()
  // Rows are sorted by the second in which their pulls ended, so the ages must not show a different order.
  const seconds = now / 1000 - Math.floor(at / 1000)
  return (
    <time
      className={styles.ended}
      dateTime={new Date(at).toISOString()}
      title={(before ? 'failing since ' : '') + exactTime(at)}
    >
      {' '}
      {before ? `${before} ${duration(seconds)}` : ago(seconds)}
    </time>
  )
}

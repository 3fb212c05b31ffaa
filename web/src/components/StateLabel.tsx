import { classes } from '../classes'
import { duration } from '../format'
import { type PullState, pullState, STATE_WORD } from '../pullState'
import { useNow } from '../store/useStore'
import type { Pull } from '../wire'
import { Icon } from './Icon'
import styles from './StateLabel.module.css'

export function StateLabel({ pull }: { readonly pull: Pull }) {
  const state = pullState(pull)
  const since = state === 'stalled' ? pull.stalledSince : state === 'queued' ? pull.startedAt : undefined
  return <State state={state}>{since !== undefined && <Since at={since} />}</State>
}

export function State({
  state,
  children,
}: {
  readonly state: PullState
  readonly children?: React.ReactNode
}) {
  return (
    <span className={classes(styles.state, styles[state])}>
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

import { classes } from '../classes'
import { clock, times } from '../model/format'
import { slowSentence, timeLeftWords } from '../model/limit'
import { slowFactor, tookSeconds, unusualSeconds } from '../model/pullState'
import { useNow } from '../store/useStore'
import shared from '../styles/shared.module.css'
import type { Pull } from '../wire/wire'
import styles from './TimeLeft.module.css'

/** The time until the image is ready or until the next attempt, or the time that the pull took. */
export function TimeLeft({ pull }: { readonly pull: Pull }) {
  const now = useNow()
  const took = tookSeconds(pull)
  const usual = unusualSeconds(pull, now)
  const verb = pull.status === 'failed' ? 'after' : 'took'
  if (pull.status === 'failed' && pull.nextRetryAt !== undefined) {
    const left = (pull.nextRetryAt - now) / 1000
    return <span className={styles.retry}>{left > 0 ? `retry in ${clock(left)}` : 'retry due'}</span>
  }
  if (took !== undefined) {
    return (
      <span className={shared.dim}>
        {verb} <span className={shared.figure}>{clock(took)}</span>
        {usual !== undefined && <Usual pull={pull} seconds={usual} />}
      </span>
    )
  }
  const left = timeLeftWords(pull, now)
  return (
    <span title={left === undefined ? pull.etaMissing : undefined}>
      <span className={left === undefined ? shared.faint : shared.figure}>{left ?? '–'}</span>
      {usual !== undefined && <Usual pull={pull} seconds={usual} />}
    </span>
  )
}

function Usual({ pull, seconds }: { readonly pull: Pull; readonly seconds: number }) {
  const now = useNow()
  const factor = slowFactor(pull, now)
  return factor === undefined ? (
    <span className={styles.usual} title="usual time of the whole pull">
      usually {clock(seconds)}
    </span>
  ) : (
    <span className={classes(styles.usual, styles.slow)} title={slowSentence(pull, now)}>
      {times(factor)} usual {clock(seconds)}
    </span>
  )
}

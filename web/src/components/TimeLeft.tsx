import { classes } from '../classes'
import { retryWords } from '../model/failureGroups'
import { clock, times } from '../model/format'
import { basisWords, slowSentence, timeLeftWords, usualWords } from '../model/limit'
import { tookSeconds, unusualSeconds } from '../model/pullState'
import { forecast, type QueuePlace } from '../model/queue'
import { standing } from '../model/standing'
import { useNow, useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import type { Pull } from '../wire/wire'
import styles from './TimeLeft.module.css'

/** The time until the next attempt, the time that the pull took, or the time until the image is ready. */
export function TimeLeft({ pull }: { readonly pull: Pull }) {
  const now = useNow()
  const { context } = useSnapshot()
  const took = tookSeconds(pull)
  const usual = unusualSeconds(pull, now)
  const verb = pull.status === 'failed' ? 'after' : 'took'
  // The kubelet retries an image only while a pod is waiting for it.
  const retry = pull.status === 'failed' && standing(pull, context) !== 'past' ? retryWords(pull, now) : ''
  if (retry !== '') return <span className={styles.retry}>{retry}</span>
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

/** The time until a queued pull is expected to be ready, or a lower bound if a pull ahead of it has no estimate. */
export function QueueTime({ pull, place }: { readonly pull: Pull; readonly place: QueuePlace }) {
  const { ready, unknown } = forecast(pull, place, useNow())
  return (
    <span className={shared.dim}>
      {unknown === undefined ? clock(ready) : ready > 0 ? `> ${clock(ready)}` : '–'}
    </span>
  )
}

function Usual({ pull, seconds }: { readonly pull: Pull; readonly seconds: number }) {
  const factor = pull.slowerThanUsual
  return factor === undefined ? (
    <span className={styles.usual} title={`usual time of the whole pull${basisWords(pull)}`}>
      {tookSeconds(pull) === undefined ? 'of usual' : 'usually'} {usualWords(pull, seconds)}
    </span>
  ) : (
    <span className={classes(styles.usual, styles.slow)} title={slowSentence(pull)}>
      {times(factor)} usual {usualWords(pull, seconds)}
    </span>
  )
}

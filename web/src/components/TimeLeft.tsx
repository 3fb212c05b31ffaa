import { retryWords } from '../model/failureGroups'
import { boundWords, clock, times } from '../model/format'
import { delayWords, slowSentence, timeLeftWords, usualWords } from '../model/limit'
import { neverBegan, tookSeconds } from '../model/pullState'
import { type QueuePlace, shownTime, shownWords } from '../model/queue'
import { standing } from '../model/standing'
import { useNow, useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import type { Pull } from '../wire/wire'
import styles from './TimeLeft.module.css'

/** The time until the next attempt, the time the pull took, or the time until the image is ready. */
export function TimeLeft({ pull }: { readonly pull: Pull }) {
  const now = useNow()
  const { context } = useSnapshot()
  const took = tookSeconds(pull)
  const verb = pull.status === 'failed' ? 'after' : 'took'
  // The kubelet retries an image only while a pod is waiting for it.
  const retry = pull.status === 'failed' && standing(pull, context) !== 'past' ? retryWords(pull, now) : ''
  if (retry !== '') return <span className={styles.retry}>{retry}</span>
  if (neverBegan(pull)) return <span className={shared.faint}>never began</span>
  if (took !== undefined) {
    return (
      <span className={shared.dim}>
        {verb} <span className={shared.figure}>{clock(took)}</span>
        <Slow pull={pull} />
      </span>
    )
  }
  const left = timeLeftWords(pull, now)
  return (
    <span title={left === undefined ? pull.etaMissing : undefined}>
      <span className={left === undefined ? shared.faint : shared.figure}>{left ?? '–'}</span>
      <Slow pull={pull} />
    </span>
  )
}

/** The time until a queued pull is expected to be ready. The tooltip says why the time is only a lower bound, or why none
 * is shown. */
export function QueueTime({ pull, place }: { readonly pull: Pull; readonly place: QueuePlace }) {
  const now = useNow()
  const time = shownTime(pull, place, now)
  if (time?.isBound === false) return <span className={shared.dim}>{shownWords(time)}</span>
  return <Bound seconds={time?.seconds ?? 0} why={delayWords(pull, place, now)} />
}

/** A lower bound on the time left until an image or a pod is ready, or a dash if the bound is too low to be useful. The
 * tooltip says why there is no estimate. */
export function Bound({ seconds, why }: { readonly seconds: number; readonly why: string }) {
  const words = boundWords(seconds)
  return (
    <span className={shared.dim} title={words === undefined ? why : `probably not earlier: ${why}`}>
      {words ?? '–'}
    </span>
  )
}

/** Marks a pull that is slower than usual. */
function Slow({ pull }: { readonly pull: Pull }) {
  const { slowerThanUsual: factor, usualSeconds } = pull
  if (factor === undefined || usualSeconds === undefined) return null
  return (
    <span className={styles.slow} title={slowSentence(pull)}>
      {times(factor)} usual {usualWords(pull, usualSeconds)}
    </span>
  )
}

import { advice, isNotTried } from '../model/attention'
import { attemptWords, failingWords, firstRetry } from '../model/failureGroups'
import { standing } from '../model/standing'
import { useNow, useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import type { Pull } from '../wire/wire'
import styles from './Failure.module.css'

interface Props {
  readonly pull: Pull
  /** All pulls in the row. */
  readonly pulls?: readonly Pull[]
}

/** The full error, how to fix its cause, the attempt number, the countdown to the next attempt, and how long the pulls
 * have been failing. */
export function Failure({ pull, pulls = [pull] }: Props) {
  const now = useNow()
  const { context } = useSnapshot()
  const error = pull.error ?? pull.earlier.at(-1)?.error
  if (error === undefined) return null
  const isPast = standing(pull, context) === 'past'
  const since = isPast ? '' : failingWords(pulls, context, now)
  const attempt = isNotTried(pull)
    ? 'The kubelet does not pull this image'
    : isPast
      ? `Attempt ${pull.attempt} failed`
      : attemptWords(firstRetry(pulls) ?? pull, now)
  const remedy = advice([pull, ...pulls], context)
  return (
    <div className={styles.failure}>
      <p className={styles.text}>{error}</p>
      {remedy && <p>{remedy}</p>}
      <p className={shared.failed}>
        <span className={shared.nowrap}>{attempt}</span>
        {since && `; ${since}`}
      </p>
    </div>
  )
}

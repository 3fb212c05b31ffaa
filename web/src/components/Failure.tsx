import { isNotTried } from '../model/attention'
import { clock } from '../model/format'
import { useNow } from '../store/useStore'
import shared from '../styles/shared.module.css'
import type { Pull } from '../wire/wire'
import styles from './Failure.module.css'

/** The full error, the attempt, and the countdown to the next one. */
export function Failure({ pull }: { readonly pull: Pull }) {
  const now = useNow()
  const { error, nextRetryAt } = pull
  if (error === undefined) return null
  const retry =
    nextRetryAt === undefined
      ? ''
      : nextRetryAt > now
        ? `next attempt in about ${clock((nextRetryAt - now) / 1000)}`
        : 'the next attempt is due'
  const attempt = isNotTried(pull) ? 'The kubelet does not pull this image' : `Attempt ${pull.attempt}`
  return (
    <div className={styles.failure}>
      <p className={styles.text}>{error}</p>
      <p className={shared.failed}>{[attempt, retry].filter(Boolean).join('; ')}</p>
    </div>
  )
}

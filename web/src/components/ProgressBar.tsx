import { classes } from '../classes'
import { progressUnavailable, pullState } from '../pullState'
import type { Pull } from '../wire'
import styles from './ProgressBar.module.css'

/** Two parts: what is unpacked, and what is here but still packed. */
export function ProgressBar({ pull }: { readonly pull: Pull }) {
  const state = pullState(pull)
  const known = pull.totalKnown || state === 'done'
  const downloaded = state === 'done' ? 1 : known ? pull.percent / 100 : 0
  const extracted = pull.totalBytes > 0 ? Math.min(downloaded, pull.extractedBytes / pull.totalBytes) : 0
  return (
    <span
      className={classes(
        styles.track,
        state === 'downloading' && !known && !progressUnavailable(pull) && styles.unknown,
      )}
    >
      <span className={classes(styles.fill, styles[state])} style={{ transform: `scaleX(${downloaded})` }} />
      {state !== 'done' && state !== 'failed' && (
        <span
          className={classes(styles.fill, styles.extracted)}
          style={{ transform: `scaleX(${extracted})` }}
        />
      )}
    </span>
  )
}

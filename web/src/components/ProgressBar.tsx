import { classes } from '../classes'
import { percent } from '../model/format'
import { pullState, unpackedShare } from '../model/pullState'
import type { Pull } from '../wire/wire'
import styles from './ProgressBar.module.css'

/** A bar with two parts: unpacked bytes, and bytes that have been downloaded but not yet unpacked. */
export function ProgressBar({ pull }: { readonly pull: Pull }) {
  const state = pullState(pull)
  const isKnown = pull.totalKnown || state === 'done' || pull.percentBasis === 'layers'
  const downloaded = state === 'done' ? 1 : isKnown ? pull.percent / 100 : 0
  const extracted = Math.min(downloaded, unpackedShare(pull) ?? 0)
  return (
    <span
      className={classes(styles.track, state === 'downloading' && !isKnown && styles.unknown)}
      title={
        isKnown ? `blue: downloaded, violet: unpacked (${percent(100 * extracted)})` : 'size not known yet'
      }
    >
      <span className={classes(styles.fill, styles[state])} style={{ transform: `scaleX(${downloaded})` }} />
      {state !== 'done' && state !== 'failed' && state !== 'cancelled' && (
        <span
          className={classes(styles.fill, styles.extracted)}
          style={{ transform: `scaleX(${extracted})` }}
        />
      )}
    </span>
  )
}

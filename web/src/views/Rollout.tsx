import { classes } from '../classes'
import type { ImageRow } from '../model/rollout'
import styles from './Rollout.module.css'

const PARTS = [
  ['done', 'done'],
  ['pulling', 'pulling'],
  ['queued', 'queued'],
  ['failed', 'failed'],
  ['stopped', 'stopped'],
] as const

/** A bar that shows the nodes, and the same information in words. */
export function Rollout({ row }: { readonly row: ImageRow }) {
  const parts = PARTS.filter(([part]) => row[part] > 0)
  return (
    <span className={styles.rollout}>
      <span
        className={classes(styles.bar, row.done === row.pulls.length && styles.complete)}
        aria-hidden="true"
      >
        {parts.map(([part]) => (
          <span key={part} className={classes(styles.part, styles[part])} style={{ flexGrow: row[part] }} />
        ))}
      </span>
      <span className={styles.words}>{parts.map(([part, word]) => `${row[part]} ${word}`).join(' · ')}</span>
    </span>
  )
}

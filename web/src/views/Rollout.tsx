import { classes } from '../classes'
import type { ImageRow } from '../model/rollout'
import styles from './Rollout.module.css'

const PARTS = ['done', 'pulling', 'queued', 'waiting', 'failed', 'stopped'] as const

/** The maximum number of node names that are listed. */
const MOST_NAMED = 3

/** A bar that shows the nodes by state, and the same information in words. */
export function Rollout({ row }: { readonly row: ImageRow }) {
  const counts = { ...row, waiting: row.waiting.length }
  const parts = PARTS.filter(part => counts[part] > 0)
  return (
    <span className={styles.rollout}>
      <span className={classes(styles.bar, row.done === row.nodeCount && styles.complete)} aria-hidden="true">
        {parts.map(part => (
          <span
            key={part}
            className={classes(styles.part, styles[part])}
            style={{ flexGrow: counts[part] }}
          />
        ))}
      </span>
      <span className={styles.words}>
        {parts.map(part => `${counts[part]} ${part}${part === 'waiting' ? names(row) : ''}`).join(' · ')}
      </span>
    </span>
  )
}

function names({ waiting }: ImageRow): string {
  return waiting.length > MOST_NAMED ? '' : ` (${waiting.join(', ')})`
}

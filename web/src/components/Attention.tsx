import { useState } from 'react'
import { type Concern, concerns } from '../attention'
import { classes } from '../classes'
import { clock } from '../format'
import { useNow, useSnapshot } from '../store/useStore'
import { changeUrl } from '../useUrl'
import styles from './Attention.module.css'
import { Icon } from './Icon'

const FIRST_SHOWN = 2

/** What is wrong now; nothing at all when nothing is. */
export function Attention() {
  const { pulls, nodes } = useSnapshot()
  const now = useNow()
  const [all, setAll] = useState(false)
  const found = concerns(pulls.values(), nodes?.nodes ?? [], now)
  if (found.length === 0) return null
  // A line that says "1 more" is as tall as the one it hides.
  const foldable = found.length > FIRST_SHOWN + 1
  const shown = all || !foldable ? found : found.slice(0, FIRST_SHOWN)
  return (
    <section className={styles.strip} aria-label="Needs attention">
      <ul className={styles.list}>
        {shown.map(concern => (
          <Item key={concern.key} concern={concern} />
        ))}
      </ul>
      {foldable && (
        <button type="button" className={styles.more} aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? 'Show fewer' : `Show ${found.length - FIRST_SHOWN} more`}
        </button>
      )}
    </section>
  )
}

function Item({ concern }: { readonly concern: Concern }) {
  const { kind, subject, what, advice, retrySeconds, query, pullId } = concern
  const show = () =>
    kind === 'lost'
      ? changeUrl({ view: 'nodes', query, sort: undefined, open: [] })
      : changeUrl({ view: 'pulls', query, sort: undefined, open: pullId === undefined ? [] : [pullId] })
  return (
    <li className={classes(styles.item, styles[kind])}>
      <Icon name={kind} size={18} />
      <p className={styles.text}>
        <bdi className={styles.subject}>{subject}</bdi>
        {what.startsWith(':') ? '' : ' '}
        {what} {advice}
        {retrySeconds !== undefined && (
          <span className={styles.retry}>
            {' '}
            {retrySeconds > 0 ? `Next try in about ${clock(retrySeconds)}.` : 'The next try is due.'}
          </span>
        )}
      </p>
      <button type="button" className={styles.show} onClick={show}>
        Show<span className="visually-hidden"> {subject}</span>
      </button>
    </li>
  )
}

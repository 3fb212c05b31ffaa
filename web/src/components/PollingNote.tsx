import { useSnapshot } from '../store/useStore'
import styles from './PollingNote.module.css'

/** Under the header while the list stands in for the stream: why, and what mends it. */
export function PollingNote() {
  if (useSnapshot().connection.kind !== 'polling') return null
  return (
    <p className={styles.note}>
      The server answers, but its live stream does not arrive: probably a proxy on the way holds it back,
      which must not buffer <code>/api/v1/events</code>. Until it comes this page asks for the list, so
      changes show a few seconds late.
    </p>
  )
}

import { classes } from '../classes'
import { duration, timeOfDay } from '../model/format'
import { POLL_MS } from '../store/store'
import { useNow, useSnapshot, useStore } from '../store/useStore'
import styles from './ConnectionBadge.module.css'

/** A connection that has been lost for longer than this is shown as offline. */
const OFFLINE_MS = 20_000

export function ConnectionBadge() {
  const { connection, counts } = useSnapshot()
  useNow()
  if (connection.kind === 'live' && counts === undefined) return <Badge look="connecting" words="Loading…" />
  if (connection.kind === 'live') return <Badge look="live" words="Live" />
  if (connection.kind === 'connecting') return <Badge look="connecting" words="Connecting…" />
  if (connection.kind === 'polling') {
    return <Retry look="connecting" words={`Polling every ${duration(POLL_MS / 1000)}`} />
  }
  // `since` and `retryAt` come from the user's clock, like `Date.now()`.
  const offline = Date.now() - connection.since > OFFLINE_MS
  const wait =
    connection.retryAt === undefined ? undefined : Math.max(0, connection.retryAt - Date.now()) / 1000
  const again = wait === undefined ? 'reconnecting…' : `reconnecting in ${duration(wait)}`
  const words = offline
    ? `Offline since ${timeOfDay(connection.since)}, ${again}`
    : `${again.charAt(0).toUpperCase()}${again.slice(1)}`
  return <Retry look={offline ? 'offline' : 'connecting'} words={words} />
}

interface Props {
  readonly look: 'live' | 'connecting' | 'offline'
  readonly words: string
}

function Retry(props: Props) {
  const store = useStore()
  return (
    <button type="button" className={styles.retry} onClick={() => store.retryNow()} title="Try now">
      <Badge {...props} />
    </button>
  )
}

function Badge({ look, words }: Props) {
  return (
    <span className={classes(styles.badge, styles[look])} data-connection={look}>
      <i className={styles.dot} />
      {words}
    </span>
  )
}

import { useEffect, useRef, useState } from 'react'
import { announcement, favicon, type Heard, title } from '../announcements'
import { stands } from '../store/store'
import { useNow, useSnapshot, useStore } from '../store/useStore'

/** Not more often than one can listen. */
const PAUSE_MS = 6000
/** What a new connection tells in its first moments is how things stand, not what has happened. */
const SETTLE_MS = 2000

/** The state outside the picture: the live region, the tab's title and its icon. */
export function Announcer() {
  const { counts, connection } = useSnapshot()
  const store = useStore()
  const now = useNow()
  const [words, setWords] = useState('')
  const heard = useRef<Heard>({ counts, connection: 'connecting' })
  const spokenAt = useRef(0)

  useEffect(() => {
    document.title = title(counts, connection.kind)
  }, [counts, connection.kind])

  const icon = favicon(counts, connection.kind)
  useEffect(() => {
    document.querySelector('link[rel="icon"]')?.setAttribute('href', `./favicon-${icon}.svg`)
  }, [icon])

  useEffect(() => {
    if (connection.kind === 'live') spokenAt.current = store.clock.now() - PAUSE_MS + SETTLE_MS
  }, [store, connection.kind])

  useEffect(() => {
    if (now - spokenAt.current < PAUSE_MS) return
    const present: Heard = { counts, connection: connection.kind }
    // What a list brings in the meantime is told when the connection stands.
    if (!stands(connection) && present.connection === heard.current.connection) return
    const said = announcement(heard.current, present)
    heard.current = present
    if (said === '') return
    spokenAt.current = now
    setWords(said)
  }, [now, counts, connection.kind])

  return (
    <div className="visually-hidden" role="status" aria-live="polite">
      {words}
    </div>
  )
}

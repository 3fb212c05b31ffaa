import { useEffect, useRef, useState } from 'react'
import { type Announced, announcement, favicon, title } from '../model/announcements'
import { NO_COUNTS } from '../model/standing'
import { isConnected } from '../store/connection'
import { useNow, useSnapshot, useStore } from '../store/useStore'

/** How long a screen reader needs for one announcement. */
const PAUSE_MS = 6000
/** Events that arrive this soon after connecting belong to the current state, so they are not announced as
 * changes. */
const SETTLE_MS = 2000

/** Updates everything outside the visible page: the live region, and the tab's title and icon. */
export function Announcer() {
  const { counts: known, connection } = useSnapshot()
  const counts = known ?? NO_COUNTS
  const isKnown = known !== undefined
  const store = useStore()
  const now = useNow()
  const [words, setWords] = useState('')
  const announced = useRef<Announced>({ counts, connection: 'connecting' })
  const announcedAt = useRef(0)

  useEffect(() => {
    document.title = title(counts, connection.kind)
  }, [counts, connection.kind])

  const icon = favicon(counts, connection.kind)
  useEffect(() => {
    document.querySelector('link[rel="icon"]')?.setAttribute('href', `./favicon-${icon}.svg`)
  }, [icon])

  useEffect(() => {
    if (connection.kind === 'live') announcedAt.current = store.clock.now() - PAUSE_MS + SETTLE_MS
  }, [store, connection.kind])

  useEffect(() => {
    if (now - announcedAt.current < PAUSE_MS) return
    const present: Announced = { counts, connection: connection.kind }
    if (connection.kind === 'live' && !isKnown) return
    // If polling finds changes while the stream is down, they are announced once the stream has been restored.
    if (!isConnected(connection) && present.connection === announced.current.connection) return
    const text = announcement(announced.current, present)
    announced.current = present
    if (text === '') return
    announcedAt.current = now
    setWords(text)
  }, [now, counts, isKnown, connection.kind])

  return (
    <div className="visually-hidden" role="status" aria-live="polite">
      {words}
    </div>
  )
}

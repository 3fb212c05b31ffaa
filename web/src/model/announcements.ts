/** The announcements for screen readers, and the page's title and icon. */
import { count } from './format'
import { activeCount, type StateCounts } from './standing'

export interface Announced {
  readonly counts: StateCounts
  readonly connection: 'connecting' | 'live' | 'polling' | 'lost'
}

const CONNECTION: Readonly<Record<Announced['connection'], string>> = {
  connecting: 'Connecting.',
  live: 'Connected again.',
  polling: 'The live stream is not arriving, so the page polls the list.',
  lost: 'The connection is lost.',
}

/** Returns the text to announce, or an empty string if nothing justifies interrupting the user. */
export function announcement(before: Announced, now: Announced): string {
  if (before.connection === 'connecting' && now.connection === 'live') return 'Connected.'
  // The first list is the current state, not a change.
  if (before.connection === 'connecting' && now.connection === 'polling') return CONNECTION.polling
  const parts: string[] = []
  if (now.connection !== before.connection) parts.push(CONNECTION[now.connection])
  const failed = now.counts.failed - before.counts.failed
  const stalled = now.counts.stalled - before.counts.stalled
  const done = now.counts.done - before.counts.done
  if (failed > 0) parts.push(`${count(failed, 'pull')} failed.`)
  if (stalled > 0) parts.push(`${count(stalled, 'pull')} stalled.`)
  if (done > 0) parts.push(`${count(done, 'pull')} done.`)
  return parts.join(' ')
}

/** The tab's title, with problems and progress first, because tabs are narrow. */
export function title(counts: StateCounts, connection: Announced['connection']): string {
  const active = activeCount(counts)
  const parts = [
    connection === 'lost' && 'offline',
    counts.failed > 0 && `${counts.failed} failed`,
    active > 0 && `${active} active`,
  ].filter(Boolean)
  return [parts.join(', '), 'Pulltrace'].filter(Boolean).join(' · ')
}

export type Favicon = 'idle' | 'busy' | 'failed' | 'offline'

export function favicon(counts: StateCounts, connection: Announced['connection']): Favicon {
  if (connection === 'lost') return 'offline'
  if (counts.failed > 0) return 'failed'
  return activeCount(counts) > 0 ? 'busy' : 'idle'
}

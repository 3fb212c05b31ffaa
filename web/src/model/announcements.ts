/** The announcements for screen readers, and the page's title and icon. */
import { count, joined } from './format'
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
  const failed = now.counts.failed - before.counts.failed
  const stalled = now.counts.stalled - before.counts.stalled
  const done = now.counts.done - before.counts.done
  return joined(
    ' ',
    now.connection !== before.connection && CONNECTION[now.connection],
    failed > 0 && `${count(failed, 'pull')} failed.`,
    stalled > 0 && `${count(stalled, 'pull')} stalled.`,
    done > 0 && `${count(done, 'pull')} done.`,
  )
}

/** The tab's title, with problems and progress first, because tabs are narrow. */
export function title(counts: StateCounts, connection: Announced['connection']): string {
  const active = activeCount(counts)
  const state = joined(
    ', ',
    connection === 'lost' && 'offline',
    counts.failed > 0 && `${counts.failed} failed`,
    active > 0 && `${active} active`,
  )
  return joined(' · ', state, 'Pulltrace')
}

export type Favicon = 'idle' | 'busy' | 'failed' | 'offline'

export function favicon(counts: StateCounts, connection: Announced['connection']): Favicon {
  if (connection === 'lost') return 'offline'
  if (counts.failed > 0) return 'failed'
  return activeCount(counts) > 0 ? 'busy' : 'idle'
}

/** PURE. What a screen reader is told about the time since it was last told something. */
import { count } from './format'
import type { StateCounts } from './pullState'

export interface Heard {
  readonly counts: StateCounts
  readonly connection: 'connecting' | 'live' | 'polling' | 'lost'
}

const CONNECTION: Readonly<Record<Heard['connection'], string>> = {
  connecting: 'Connecting.',
  live: 'Connected again.',
  polling: 'The live stream does not arrive, so the list is asked for every few seconds.',
  lost: 'The connection is lost.',
}

/** Empty when nothing happened that is worth interrupting for. */
export function announcement(before: Heard, now: Heard): string {
  if (before.connection === 'connecting' && now.connection === 'live') return 'Connected.'
  // What the first list tells is how things stand.
  if (before.connection === 'connecting' && now.connection === 'polling') return CONNECTION.polling
  const said: string[] = []
  if (now.connection !== before.connection) said.push(CONNECTION[now.connection])
  const failed = now.counts.failed - before.counts.failed
  const stalled = now.counts.stalled - before.counts.stalled
  const done = now.counts.done - before.counts.done
  if (failed > 0) said.push(`${count(failed, 'pull')} failed.`)
  if (stalled > 0) said.push(`${count(stalled, 'pull')} stalled.`)
  if (done > 0) said.push(`${count(done, 'pull')} done.`)
  return said.join(' ')
}

/** The tab's title: trouble and work first, for tabs are narrow. */
export function title(counts: StateCounts, connection: Heard['connection']): string {
  const active = counts.queued + counts.downloading + counts.extracting
  const parts = [
    ...(connection === 'lost' ? ['offline'] : []),
    ...(counts.failed > 0 ? [`${counts.failed} failed`] : []),
    ...(active > 0 ? [`${active} active`] : []),
  ]
  return [parts.join(', '), 'Pulltrace'].filter(Boolean).join(' · ')
}

export type Favicon = 'idle' | 'busy' | 'failed' | 'offline'

export function favicon(counts: StateCounts, connection: Heard['connection']): Favicon {
  if (connection === 'lost') return 'offline'
  if (counts.failed > 0) return 'failed'
  return counts.queued + counts.downloading + counts.extracting > 0 ? 'busy' : 'idle'
}

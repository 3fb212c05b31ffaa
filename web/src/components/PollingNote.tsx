import { isConnected } from '../store/connection'
import { useSnapshot } from '../store/useStore'
import { Note } from './Note'

/** Explains why the page is polling the list instead of using the stream, and what to do about it. */
export function PollingNote() {
  const { connection } = useSnapshot()
  const refusal = connection.kind === 'polling' || connection.kind === 'lost' ? connection.refusal : undefined
  if (refusal !== undefined) {
    return (
      <Note>
        <span>
          The server refuses the live stream with status {refusal.status}
          {refusal.reason === '' ? '' : ` (${refusal.reason})`}
          {refusal.status === 503 ? ': it has too many clients. Close tabs that you do not need.' : '.'}
          {isConnected(connection) &&
            ' Until there is room, this page polls the list, so changes appear a few seconds late.'}
        </span>
      </Note>
    )
  }
  if (connection.kind !== 'polling') return null
  return (
    <Note>
      <span>
        The server responds, but its live stream is not arriving, probably because a proxy buffers{' '}
        <code>/api/v1/events</code>. Until the stream arrives, this page polls the list, so changes appear a
        few seconds late.
      </span>
    </Note>
  )
}

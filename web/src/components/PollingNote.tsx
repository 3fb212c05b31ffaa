import { isConnected } from '../store/connection'
import { useSnapshot } from '../store/useStore'
import { Note } from './Note'

/** The reason and the remedy while the list replaces the stream. */
export function PollingNote() {
  const { connection } = useSnapshot()
  const refusal = connection.kind === 'polling' || connection.kind === 'lost' ? connection.refusal : undefined
  if (refusal !== undefined) {
    return (
      <Note>
        <span>
          The server refuses the live stream with status {refusal.status}
          {refusal.reason === '' ? '' : ` (${refusal.reason})`}
          {refusal.status === 503
            ? ': it has as many clients as it takes. Close tabs that nobody needs.'
            : '.'}
          {isConnected(connection) &&
            ' Until there is room, this page requests the list, so changes show a few seconds late.'}
        </span>
      </Note>
    )
  }
  if (connection.kind !== 'polling') return null
  return (
    <Note>
      <span>
        The server responds, but its live stream does not arrive: probably a proxy on the way buffers{' '}
        <code>/api/v1/events</code>. Until the stream arrives, this page requests the list, so changes show a
        few seconds late.
      </span>
    </Note>
  )
}

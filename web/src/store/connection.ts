/** The state of the connection, derived from the stream's events and from the lists that the page requests.
 *
 * Normally, the page receives all changes from the stream. While the stream is silent, the page requests the list of
 * pulls every few seconds. After two consecutive successful responses, the page is `polling`. After the first
 * successful response, the page retries the stream, because the server may have become available again. Times named
 * `…At` and `since` are from this machine's clock (`Date.now()`). */

/** The server's reason for refusing the stream, for example too many clients. */
export interface Refusal {
  readonly status: number
  /** The error text from the server; empty if the server did not send one. */
  readonly reason: string
}

export type Connection =
  | { readonly kind: 'connecting' }
  | { readonly kind: 'live' }
  /** The server responds, but the stream is refused or does not reach the page, so the page requests the list
   * instead. */
  | { readonly kind: 'polling'; readonly refusal: Refusal | undefined }
  /** While the page is trying to connect, `retryAt` is undefined. */
  | {
      readonly kind: 'lost'
      readonly since: number
      readonly retryAt: number | undefined
      readonly refusal: Refusal | undefined
    }

export interface ConnectionState {
  readonly shown: Connection
  /** The time at which the stream was lost; undefined while the stream is live. */
  readonly silentSince: number | undefined
  readonly retryAt: number | undefined
  readonly refusal: Refusal | undefined
  /** Whether the last request for the list of pulls succeeded. The page polls this list while the stream is down. */
  readonly onPolledList: boolean
  /** How many list requests have failed in a row. */
  readonly pollFailures: number
}

export type ConnectionEvent =
  | { readonly kind: 'live' }
  | { readonly kind: 'lost'; readonly retryAt: number; readonly now: number }
  | { readonly kind: 'refused'; readonly refusal: Refusal }
  | { readonly kind: 'trying' }
  /** The stream is open, but the state is not arriving. */
  | { readonly kind: 'silent'; readonly since: number }
  /** The request for the list of pulls succeeded or failed. */
  | { readonly kind: 'list'; readonly arrived: boolean; readonly now: number }
  /**
   * Whether the request for the list of nodes succeeded or failed. The page always polls this list.
   */
  | { readonly kind: 'nodes'; readonly arrived: boolean }

export interface Step {
  readonly state: ConnectionState
  /** Whether to retry the stream immediately. */
  readonly retry: boolean
}

/** After this number of failed list requests in a row, a stream that appears to be live is assumed to be dead as
 * well. */
const SUSPICIOUS_FAILURES = 2

export function connecting(now: number): ConnectionState {
  return {
    shown: { kind: 'connecting' },
    silentSince: now,
    retryAt: undefined,
    refusal: undefined,
    onPolledList: false,
    pollFailures: 0,
  }
}

/** Whether the page is receiving changes from the server, through either the stream or the list. */
export function isConnected({ kind }: Pick<Connection, 'kind'>): boolean {
  return kind === 'live' || kind === 'polling'
}

export function next(state: ConnectionState, event: ConnectionEvent): Step {
  switch (event.kind) {
    case 'live':
      return go({ ...connecting(0), shown: { kind: 'live' }, silentSince: undefined })
    case 'lost':
      return go(lost(state, event.retryAt, event.now))
    case 'refused':
      return go(refused({ ...state, refusal: event.refusal }))
    case 'trying':
      return go(trying({ ...state, retryAt: undefined }))
    case 'silent':
      return go({ ...state, shown: { kind: 'connecting' }, silentSince: event.since })
    case 'list':
      return list(state, event.arrived, event.now)
    case 'nodes':
      return nodes(state, event.arrived)
  }
}

function go(state: ConnectionState, retry = false): Step {
  return { state, retry }
}

function lost(state: ConnectionState, retryAt: number, now: number): ConnectionState {
  const silent = { ...state, silentSince: state.silentSince ?? now, retryAt }
  return state.shown.kind === 'polling' ? silent : away(silent, now)
}

function away(state: ConnectionState, now: number): ConnectionState {
  const since = state.shown.kind === 'lost' ? state.shown.since : now
  return { ...state, shown: { kind: 'lost', since, retryAt: state.retryAt, refusal: state.refusal } }
}

function refused(state: ConnectionState): ConnectionState {
  const { shown, refusal } = state
  return shown.kind === 'polling' || shown.kind === 'lost'
    ? { ...state, shown: { ...shown, refusal } }
    : state
}

function trying(state: ConnectionState): ConnectionState {
  return state.shown.kind === 'lost' ? { ...state, shown: { ...state.shown, retryAt: undefined } } : state
}

/** A list that arrives while the stream is live is ignored, because it is older than the stream's state. */
function list(state: ConnectionState, arrived: boolean, now: number): Step {
  if (state.silentSince === undefined) return go(state)
  const after = { ...state, onPolledList: arrived }
  if (!arrived) return go(state.shown.kind === 'polling' ? away(after, now) : after)
  if (state.onPolledList) return go({ ...after, shown: { kind: 'polling', refusal: state.refusal } })
  return go(after, state.retryAt !== undefined)
}

/** EventSource does not notice a silently lost connection. The page notices this only because its list requests
 * fail. */
function nodes(state: ConnectionState, arrived: boolean): Step {
  const pollFailures = arrived ? 0 : state.pollFailures + 1
  const isDead = pollFailures === SUSPICIOUS_FAILURES && state.shown.kind === 'live'
  return go({ ...state, pollFailures }, isDead)
}

/** A snapshot of what the page shows: the store's state as React sees it. */
import { type Context, contextOf, type StateCounts } from '../model/standing'
import type { NodeList, PodList, Pull, ThroughputHistory } from '../wire/wire'
import type { Connection } from './connection'

export interface Snapshot {
  /** This map is modified in place. `version` is incremented whenever its contents change. */
  readonly pulls: ReadonlyMap<string, Pull>
  /** The running pulls to show at the top of the Pulls view until the full state has arrived. */
  readonly first: ReadonlyMap<string, Pull> | undefined
  readonly version: number
  /** Incremented when a change affects filters or groups; see `PullTable.shape`. */
  readonly shape: number
  readonly context: Context
  /** The number of pulls in each state; undefined until the server has sent its initial state. */
  readonly counts: StateCounts | undefined
  readonly connection: Connection
  /** The time at which the connection was lost; undefined while connected. After the connection is lost, the page shows
   * the state as of this time. */
  readonly asOf: number | undefined
  readonly serverVersion: string | undefined
  readonly nodes: NodeList | undefined
  /** `missing` means that this server does not provide the list. */
  readonly pods: PodList | 'missing' | undefined
  /** The throughput over the last few minutes, as measured by the server. */
  readonly history: ThroughputHistory | undefined
}

/** The initial snapshot, before any data has arrived. */
export function emptySnapshot(pulls: ReadonlyMap<string, Pull>): Snapshot {
  return {
    pulls,
    first: undefined,
    version: 0,
    shape: 0,
    context: contextOf([], undefined, Date.now()),
    counts: undefined,
    connection: { kind: 'connecting' },
    asOf: undefined,
    serverVersion: undefined,
    nodes: undefined,
    pods: undefined,
    history: undefined,
  }
}

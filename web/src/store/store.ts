/** The page's one store: what the stream and the polls tell, handed to React once per animation frame. */
import { countStates, type StateCounts } from '../pullState'
import { Poll, type PollAnswer } from '../stream/poll'
import type { Ask, Tell } from '../stream/protocol'
import { ratesByRegistry, type Sample, withSample } from '../throughput'
import {
  type Hello,
  type NodeList,
  type PodList,
  type Pull,
  type PullEvent,
  parseNodeList,
  parsePodList,
  parsePull,
  parsePullList,
} from '../wire'
import { Frame } from './frame'
import { PullTable } from './pullTable'
import { ServerClock } from './serverClock'

export type Connection =
  | { readonly kind: 'connecting' }
  | { readonly kind: 'live' }
  /** The server answers, its stream does not come: the list of pulls is asked for again and again instead. */
  | { readonly kind: 'polling' }
  /** `since` and `retryAt` by this machine's clock; `retryAt` is absent while the try is under way. */
  | { readonly kind: 'lost'; readonly since: number; readonly retryAt: number | undefined }

/** The server tells of changes, in one way or the other. */
export function stands({ kind }: Pick<Connection, 'kind'>): boolean {
  return kind === 'live' || kind === 'polling'
}

export interface Snapshot {
  /** One map for the page's whole life; `version` says that something in it changed. */
  readonly pulls: ReadonlyMap<string, Pull>
  readonly version: number
  readonly shape: number
  readonly counts: StateCounts
  readonly connection: Connection
  readonly serverVersion: string | undefined
  readonly nodes: NodeList | undefined
  /** `missing`: this server has no such list. */
  readonly pods: PodList | 'missing' | undefined
}

export interface Pace {
  readonly nodesMs: number
  readonly podsMs: number
}

/** After a reset the whole state follows at once; waiting this long shows it in one step. */
const RESET_HOLD_MS = 120
/** What a frame takes in without being missed; a tab nobody sees has no frames to miss. */
const EVENTS_A_FRAME = 250
const EVENTS_HIDDEN = 5000
const OPEN_DEBOUNCE_MS = 120
const TICK_MS = 1000
/** A stream that has been silent for so long may be held back by a proxy. */
const QUIET_MS = 4000
export const POLL_MS = 3000
/** So many unanswered polls in a row while the stream seems live: the stream is probably dead too. */
const SUSPICIOUS_FAILURES = 2

export class Store {
  readonly clock = new ServerClock(() => performance.now())
  readonly #base: string
  readonly #table = new PullTable()
  readonly #frame = new Frame(() => this.#flush())
  readonly #stream = new Worker(new URL('../stream/worker.ts', import.meta.url), { type: 'module' })
  readonly #nodes: Poll<NodeList>
  readonly #pods: Poll<PodList>
  readonly #pullsAddress: URL
  /** Stands in for the stream while that is silent. */
  readonly #pulls: Poll<readonly Pull[]>
  /** Since when there is no stream, by `performance.now()`. */
  #quietSince: number | undefined = performance.now()
  /** When the stream is tried again; absent while it is being tried. */
  #retryAt: number | undefined
  /** The last list asked for while the stream was silent came. */
  #stands = false
  readonly #listeners = new Set<() => void>()
  readonly #tickListeners = new Set<() => void>()
  #more = false
  #asked = false
  #pollFailures = 0
  #open: readonly string[] = []
  /** Open rows whose layers were asked for apart from the stream, once each. */
  readonly #asking = new Set<string>()
  #openTimer: ReturnType<typeof setTimeout> | undefined
  #ticker: ReturnType<typeof setInterval> | undefined
  #samples: readonly Sample[] = []
  #now = Date.now()
  #next: Partial<Snapshot> = {}
  #snapshot: Snapshot = {
    pulls: this.#table.pulls,
    version: 0,
    shape: 0,
    counts: countStates([]),
    connection: { kind: 'connecting' },
    serverVersion: undefined,
    nodes: undefined,
    pods: undefined,
  }

  /** `base` is the address the page came from, path prefix included. */
  constructor(base: string) {
    this.#base = base
    this.#stream.addEventListener('message', ({ data }: MessageEvent<Tell>) => this.#hear(data))
    this.#pullsAddress = new URL('api/v1/pulls?layers=false', base)
    this.#pulls = new Poll(this.#pullsAddress, parsePullList, answer => this.#stand(answer))
    this.#nodes = new Poll(new URL('api/v1/nodes', base), parseNodeList, answer => {
      this.#judge(answer)
      if (answer.kind === 'value') this.#change({ nodes: answer.value })
    })
    this.#pods = new Poll(new URL('api/v1/pods', base), parsePodList, answer => {
      if (answer.kind === 'value') this.#change({ pods: answer.value })
      else if (answer.kind === 'missing') this.#change({ pods: 'missing' })
    })
  }

  start(): void {
    this.#ask({ kind: 'open', base: this.#base })
    this.#ticker = setInterval(() => this.#tick(), TICK_MS)
    document.addEventListener('visibilitychange', this.#wake)
    window.addEventListener('online', this.#wake)
  }

  stop(): void {
    this.#stream.terminate()
    this.pace({ nodesMs: 0, podsMs: 0 })
    this.#pulls.every(0)
    this.#frame.stop()
    clearInterval(this.#ticker)
    clearTimeout(this.#openTimer)
    document.removeEventListener('visibilitychange', this.#wake)
    window.removeEventListener('online', this.#wake)
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  readonly snapshot = (): Snapshot => this.#snapshot

  /** Ticks once a second: clocks and the throughput chart. */
  readonly subscribeTick = (listener: () => void): (() => void) => {
    this.#tickListeners.add(listener)
    return () => this.#tickListeners.delete(listener)
  }

  /** The server's time of the last tick, so that all clocks of one screen agree. */
  readonly now = (): number => this.#now

  readonly samples = (): readonly Sample[] => this.#samples

  /** How often the lists beside the stream are asked for. */
  pace({ nodesMs, podsMs }: Pace): void {
    this.#nodes.every(nodesMs)
    this.#pods.every(podsMs)
  }

  retryNow(): void {
    this.#ask({ kind: 'retryNow' })
  }

  /** These pulls' rows are open: they need their layers. */
  setOpen(ids: readonly string[]): void {
    this.#open = ids
    this.#table.wantLayers(ids)
    this.#pullsAddress.searchParams.set('layers', ids.length === 0 ? 'false' : ids.join(','))
    for (const id of this.#asking) if (!ids.includes(id)) this.#asking.delete(id)
    this.#askMissingLayers()
    clearTimeout(this.#openTimer)
    this.#openTimer = setTimeout(() => this.#ask({ kind: 'wantLayers', ids }), OPEN_DEBOUNCE_MS)
  }

  #askMissingLayers(): void {
    for (const id of this.#open) {
      const pull = this.#table.pulls.get(id)
      if (pull === undefined || pull.layers !== undefined || this.#asking.has(id)) continue
      this.#asking.add(id)
      void this.#askLayers(id)
    }
  }

  /** A pull that does not change any more would never bring its layers by the stream. */
  async #askLayers(id: string): Promise<void> {
    try {
      const response = await fetch(new URL(`api/v1/pulls/${encodeURIComponent(id)}`, this.#base))
      if (!response.ok) return
      this.#table.offerLayers(parsePull(await response.json()))
      this.#frame.request()
    } catch {
      // The stream brings them with the pull's next change.
    }
  }

  #ask(ask: Ask): void {
    this.#stream.postMessage(ask)
  }

  #hear(tell: Tell): void {
    switch (tell.kind) {
      case 'live':
        this.#live(tell.hello)
        break
      case 'reset':
        this.#table.reset()
        this.#asking.clear()
        this.#frame.hold(RESET_HOLD_MS)
        break
      case 'lost':
        this.#lost(tell.retryAt)
        break
      case 'trying':
        this.#trying()
        break
      case 'waiting':
        this.#more = true
        this.#frame.request()
        break
      case 'events':
        this.#take(tell.events, tell.more)
        break
    }
  }

  #take(events: readonly PullEvent[], more: boolean): void {
    this.#asked = false
    this.#more = more
    for (const event of events) {
      this.clock.atLeast(event.timestamp)
      this.#table.apply(event)
    }
    this.#frame.request()
  }

  #live(hello: Hello): void {
    this.clock.set(hello.time)
    this.#now = this.clock.now()
    this.#pollFailures = 0
    this.#quietSince = undefined
    this.#retryAt = undefined
    this.#stands = false
    this.#pulls.every(0)
    this.#change({ connection: { kind: 'live' }, serverVersion: hello.version })
  }

  #lost(retryAt: number): void {
    this.#quietSince ??= performance.now()
    this.#retryAt = retryAt
    if (this.#connection.kind !== 'polling') this.#away()
  }

  #trying(): void {
    this.#retryAt = undefined
    if (this.#connection.kind === 'lost') this.#away()
  }

  #away(): void {
    const connection = this.#connection
    const since = connection.kind === 'lost' ? connection.since : Date.now()
    this.#change({ connection: { kind: 'lost', since, retryAt: this.#retryAt } })
  }

  get #connection(): Connection {
    return this.#next.connection ?? this.#snapshot.connection
  }

  /** An answer of the list while the stream is silent. One that comes when the stream is back is older than it. */
  #stand(answer: PollAnswer<readonly Pull[]>): void {
    if (this.#quietSince === undefined) return
    const stood = this.#stands
    this.#stands = answer.kind === 'value' || answer.kind === 'unchanged'
    if (!this.#stands) {
      if (this.#connection.kind === 'polling') this.#away()
      return
    }
    if (answer.kind === 'value') this.#table.replaceBy(answer.value)
    this.#frame.request()
    if (stood) this.#change({ connection: { kind: 'polling' } })
    // Perhaps the server is back: its stream is tried at once, before anything is said against it.
    else if (this.#retryAt !== undefined) this.retryNow()
  }

  /** EventSource cannot see a connection that died without a word; a poll can. */
  #judge(answer: PollAnswer<NodeList>): void {
    this.#pollFailures = answer.kind === 'failed' ? this.#pollFailures + 1 : 0
    if (this.#pollFailures === SUSPICIOUS_FAILURES && this.#snapshot.connection.kind === 'live')
      this.retryNow()
  }

  readonly #wake = (): void => {
    this.#frame.reschedule()
    if (document.hidden) return
    if (this.#snapshot.connection.kind === 'lost') this.retryNow()
    for (const poll of [this.#pulls, this.#nodes, this.#pods]) poll.now()
  }

  #change(change: Partial<Snapshot>): void {
    this.#next = { ...this.#next, ...change }
    this.#frame.request()
  }

  #flush(): void {
    if (this.#more && !this.#asked) {
      this.#asked = true
      this.#ask({ kind: 'next', most: document.hidden ? EVENTS_HIDDEN : EVENTS_A_FRAME })
    }
    // The state after a reset is shown when all of it is known, not in parts.
    const changed = !(this.#more && this.#table.isReplaced) && this.#table.commit()
    this.#snapshot = {
      ...this.#snapshot,
      ...this.#next,
      ...(changed && {
        version: this.#snapshot.version + 1,
        shape: this.#table.shape,
        counts: countStates(this.#table.pulls.values()),
      }),
    }
    this.#next = {}
    if (changed) this.#askMissingLayers()
    for (const listener of this.#listeners) listener()
  }

  #tick(): void {
    this.#now = this.clock.now()
    if (this.#quietSince !== undefined && performance.now() - this.#quietSince >= QUIET_MS)
      this.#pulls.every(POLL_MS)
    const rates = stands(this.#snapshot.connection) ? ratesByRegistry(this.#table.pulls.values()) : undefined
    this.#samples = withSample(this.#samples, { at: this.#now, rates })
    for (const listener of this.#tickListeners) listener()
  }
}

/** The page's only store: the state from the stream and the lists, passed to React once per animation frame. */
import { type Context, contextOf, countStates, waitingPods } from '../model/standing'
import { ratesByRegistry, type Sample, withHistory, withSample } from '../model/throughput'
import type { OpenedStream } from '../stream/open'
import { Poll, type PollResult } from '../stream/poll'
import type { Events, WorkerEvent, WorkerRequest } from '../stream/protocol'
import {
  type NodeList,
  type PodList,
  type Pull,
  parseNodeList,
  parsePodList,
  parsePull,
  parsePullList,
  parseThroughput,
  type ThroughputHistory,
} from '../wire/wire'
import { type ConnectionEvent, connecting, isConnected, next } from './connection'
import { PullTable } from './pullTable'
import { RafBatcher } from './rafBatcher'
import { ServerClock } from './serverClock'
import { emptySnapshot, type Snapshot } from './snapshot'

export interface Pace {
  readonly nodesMs: number
  readonly podsMs: number
}

/** A reset is followed immediately by the complete state. The page waits this long in order to show the new state all
 * at once. */
const RESET_HOLD_MS = 120
/** How many events are processed per frame. A hidden tab draws no frames, so it processes more events at a time. */
const EVENTS_PER_FRAME = 250
const EVENTS_HIDDEN = 5000
/** How many events are processed at once after a reset, while nothing is drawn because the state is incomplete. */
const EVENTS_AT_RESET = 500
const OPEN_DEBOUNCE_MS = 120
const TICK_MS = 1000
/** If the stream has been silent for this long, a proxy may be holding it back. */
const SILENT_MS = 4000
export const POLL_MS = 3000
const HISTORY_MS = 10_000

/** Matches the pull ids that are valid in the stream's URL. The keys of grouped rows and the ids in invalid links do
 * not match this pattern. */
const PULL_ID = /^(?!true$|false$)[\w.:~-]{1,200}$/

export class Store {
  readonly clock = new ServerClock(() => performance.now())
  readonly #base: string
  readonly #table = new PullTable()
  readonly #batcher = new RafBatcher(() => this.#flush())
  readonly #stream: OpenedStream
  readonly #nodes: Poll<NodeList>
  readonly #pods: Poll<PodList>
  /** The server's time when the latest list of pods was requested. */
  #podsAt = 0
  /** Older servers do not provide a history, so the chart starts empty. */
  readonly #history: Poll<ThroughputHistory>
  readonly #pullsAddress: URL
  /** Polls the list of pulls while the stream is silent. */
  readonly #pulls: Poll<readonly Pull[]>
  #connection = connecting(Date.now())
  readonly #listeners = new Set<() => void>()
  readonly #tickListeners = new Set<() => void>()
  /** Whether more events are waiting in the worker. */
  #more = false
  /** Whether part of the state has yet to arrive. */
  #isSending = false
  /** The time at which the most recent part of the state arrived. */
  #sentAt = 0
  /** Whether the stream is open but a proxy is holding back the rest of the state. */
  #isHeldBack = false
  #isRequested = false
  #open: readonly string[] = []
  /** Open rows whose layers the page has requested separately from the stream. The page requests the layers of each of
   * these rows only once. */
  readonly #layersRequested = new Set<string>()
  #openTimer: ReturnType<typeof setTimeout> | undefined
  #ticker: ReturnType<typeof setInterval> | undefined
  /** The page's own samples; `#samples` also contains the server's history. */
  #own: readonly Sample[] = []
  #samples: readonly Sample[] = []
  #now = Date.now()
  #asOf: number | undefined
  #changes: Partial<Snapshot> = {}
  #snapshot: Snapshot = emptySnapshot(this.#table.pulls)

  /** `base` is the URL of the page, including any path prefix. */
  constructor(base: string, stream: OpenedStream) {
    this.#base = base
    this.#stream = stream
    this.#pullsAddress = new URL('api/v1/pulls?layers=false', base)
    const parsePulls = (value: unknown) => parsePullList(value, this.clock.now())
    this.#pulls = new Poll(this.#pullsAddress, parsePulls, result => this.#takeList(result))
    this.#nodes = new Poll(new URL('api/v1/nodes', base), parseNodeList, result => {
      this.#step({ kind: 'nodes', arrived: result.kind !== 'failed' })
      if (result.kind === 'value') this.#change({ nodes: result.value })
    })
    this.#pods = new Poll(new URL('api/v1/pods', base), parsePodList, (result, ageMs) =>
      this.#takePods(result, ageMs),
    )
    this.#history = new Poll(new URL('api/v1/throughput', base), parseThroughput, result => {
      if (result.kind !== 'value') return
      this.#change({ history: result.value })
      this.#redraw()
    })
  }

  start(): void {
    for (const event of this.#stream.early) this.#take(event)
    this.#stream.worker.onmessage = ({ data }: MessageEvent<WorkerEvent>) => this.#take(data)
    this.#ticker = setInterval(() => this.#tick(), TICK_MS)
    document.addEventListener('visibilitychange', this.#wake)
    window.addEventListener('online', this.#wake)
    this.#history.every(HISTORY_MS)
  }

  stop(): void {
    this.#stream.worker.terminate()
    this.pace({ nodesMs: 0, podsMs: 0 })
    this.#pulls.every(0)
    this.#history.every(0)
    this.#batcher.stop()
    clearInterval(this.#ticker)
    clearTimeout(this.#openTimer)
    document.removeEventListener('visibilitychange', this.#wake)
    window.removeEventListener('online', this.#wake)
  }

  /** Shows the first pulls until the stream delivers the state. If the server is older than this page or does not
   * respond, only data from the stream is shown. */
  async showFirst(request: Promise<Response | undefined>): Promise<void> {
    try {
      const response = await request
      const at = Date.parse(response?.headers.get('Date') ?? '')
      const list = await response?.json()
      if (this.#snapshot.counts !== undefined) return
      if (at > 0 && this.#snapshot.connection.kind === 'connecting') this.clock.set(at)
      this.#now = this.clock.now()
      const first = new Map(parsePullList(list, this.#now).map(pull => [pull.id, pull]))
      this.#snapshot = { ...this.#snapshot, first }
      this.#batcher.request()
    } catch {}
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  readonly snapshot = (): Snapshot => this.#snapshot

  /** Ticks once a second, for the clocks and the throughput chart. */
  readonly subscribeTick = (listener: () => void): (() => void) => {
    this.#tickListeners.add(listener)
    return () => this.#tickListeners.delete(listener)
  }

  /** The server's time at the last tick. It keeps all clocks on the screen in sync. */
  readonly now = (): number => this.#now

  readonly samples = (): readonly Sample[] => this.#samples

  /** Sets how often the lists of nodes and pods are requested. */
  pace({ nodesMs, podsMs }: Pace): void {
    this.#nodes.every(nodesMs)
    this.#pods.every(podsMs)
  }

  retryNow(): void {
    this.#request({ kind: 'retryNow' })
  }

  /** Requests the layers of the pulls in these open rows. */
  setOpen(keys: readonly string[]): void {
    const ids = keys.filter(key => PULL_ID.test(key))
    this.#open = ids
    this.#table.wantLayers(ids)
    this.#pullsAddress.searchParams.set('layers', ids.length === 0 ? 'false' : ids.join(','))
    for (const id of this.#layersRequested) if (!ids.includes(id)) this.#layersRequested.delete(id)
    this.#requestMissingLayers()
    clearTimeout(this.#openTimer)
    this.#openTimer = setTimeout(() => this.#request({ kind: 'wantLayers', ids }), OPEN_DEBOUNCE_MS)
  }

  #requestMissingLayers(): void {
    for (const id of this.#open) {
      const pull = this.#table.pulls.get(id)
      if (pull === undefined || pull.layers !== undefined || this.#layersRequested.has(id)) continue
      this.#layersRequested.add(id)
      void this.#loadLayers(id)
    }
  }

  /** The stream sends nothing for a pull that no longer changes, so the page requests its layers separately. */
  async #loadLayers(id: string): Promise<void> {
    try {
      const response = await fetch(new URL(`api/v1/pulls/${encodeURIComponent(id)}`, this.#base))
      if (!response.ok) return
      this.#table.offerLayers(parsePull(await response.json(), this.clock.now()))
      this.#batcher.request()
    } catch {
      // The stream sends the layers with the pull's next change.
    }
  }

  #request(request: WorkerRequest): void {
    this.#stream.worker.postMessage(request)
  }

  #take(event: WorkerEvent): void {
    switch (event.kind) {
      case 'live':
        this.clock.set(event.hello.time)
        this.#now = this.clock.now()
        this.#sentAt = Date.now()
        this.#change({ serverVersion: event.hello.version })
        this.#goLive()
        break
      case 'reset':
        this.#table.reset()
        this.#layersRequested.clear()
        this.#isSending = true
        if (this.#snapshot.counts !== undefined) this.#batcher.hold(RESET_HOLD_MS)
        break
      case 'lost':
        this.#isHeldBack = false
        this.#step({ ...event, now: Date.now() })
        break
      case 'refused':
      case 'trying':
        this.#isHeldBack = false
        this.#step(event)
        break
      case 'waiting':
        this.#more = true
        this.#requestState()
        break
      case 'events':
        this.#takeEvents(event)
        break
    }
  }

  #goLive(): void {
    this.#isHeldBack = false
    this.#pulls.every(0)
    this.#step({ kind: 'live' })
  }

  #takeEvents({ events, more, isPart }: Events): void {
    this.#isRequested = false
    this.#more = more
    this.#isSending = isPart
    this.#sentAt = Date.now()
    if (!isPart && this.#isHeldBack) this.#goLive()
    for (const event of events) {
      this.clock.atLeast(event.timestamp)
      this.#table.apply(event)
    }
    this.#requestState()
  }

  /** The rest of the initial state is requested immediately, whereas later changes are requested once per frame. */
  #requestState(): void {
    if (this.#isPart()) this.#requestEvents(EVENTS_AT_RESET)
    this.#batcher.request()
  }

  #requestEvents(most: number): void {
    if (!this.#more || this.#isRequested) return
    this.#isRequested = true
    this.#request({ kind: 'next', most: document.hidden ? EVENTS_HIDDEN : most })
  }

  /** Whether part of the state has yet to arrive after a reset. The state is not shown until it is complete. */
  #isPart(): boolean {
    return this.#table.isReplaced && this.#isSending
  }

  #takeList(result: PollResult<readonly Pull[]>): void {
    const isSilent = this.#connection.silentSince !== undefined
    if (isSilent && result.kind === 'value') {
      this.#table.replaceBy(result.value)
      this.#isSending = false
    }
    const arrived = result.kind === 'value' || result.kind === 'unchanged'
    this.#step({ kind: 'list', arrived, now: Date.now() })
  }

  #takePods(result: PollResult<PodList>, ageMs: number): void {
    if (result.kind === 'failed') return
    // The list may have been put together at any time since the request was sent.
    this.#podsAt = this.clock.now() - ageMs
    const before = this.#changes.pods ?? this.#snapshot.pods
    const pods = result.kind === 'value' ? result.value : result.kind === 'missing' ? 'missing' : before
    if (pods !== undefined) this.#change({ pods, context: this.#context(pods) })
  }

  #context(pods: Snapshot['pods']): Context {
    const now = this.clock.now()
    return contextOf(this.#table.pulls.values(), waitingPods(pods, this.#podsAt), now)
  }

  #step(event: ConnectionEvent): void {
    const before = this.#connection.shown
    const { state, retry } = next(this.#connection, event)
    this.#connection = state
    if (state.shown !== before) {
      this.#asOf = isConnected(state.shown) ? undefined : (this.#asOf ?? this.#now)
      this.#change({ connection: state.shown, asOf: this.#asOf })
    } else this.#batcher.request()
    if (retry) this.retryNow()
  }

  readonly #wake = (): void => {
    this.#batcher.reschedule()
    if (document.hidden) return
    if (this.#snapshot.connection.kind === 'lost') this.retryNow()
    for (const poll of [this.#pulls, this.#nodes, this.#pods, this.#history]) poll.now()
  }

  #change(change: Partial<Snapshot>): void {
    this.#changes = { ...this.#changes, ...change }
    this.#batcher.request()
  }

  #flush(): void {
    const isPart = this.#isPart()
    this.#requestEvents(isPart ? EVENTS_AT_RESET : EVENTS_PER_FRAME)
    const changed = !isPart && this.#table.commit()
    const before = this.#snapshot
    const after = { ...before, ...this.#changes }
    this.#changes = {}
    const { shape } = this.#table
    const context = shape !== before.shape ? this.#context(after.pods) : after.context
    const isKnown = before.counts !== undefined || (!isPart && (changed || after.connection.kind === 'live'))
    const isCounted = changed || context !== before.context || (isKnown && before.counts === undefined)
    this.#snapshot = {
      ...after,
      context,
      shape,
      first: isKnown ? undefined : after.first,
      version: before.version + Number(changed),
      counts: isKnown && isCounted ? countStates(this.#table.pulls.values(), context) : before.counts,
    }
    if (changed) this.#requestMissingLayers()
    for (const listener of this.#listeners) listener()
    if (isKnown && before.counts === undefined) this.#tick()
  }

  #tick(): void {
    this.#now = this.clock.now()
    if (
      this.#isSending &&
      this.#connection.silentSince === undefined &&
      Date.now() - this.#sentAt >= SILENT_MS
    ) {
      this.#isHeldBack = true
      this.#step({ kind: 'silent', since: this.#sentAt })
    }
    const { silentSince } = this.#connection
    if (silentSince !== undefined && Date.now() - silentSince >= SILENT_MS) this.#pulls.every(POLL_MS)
    const { connection, counts } = this.#snapshot
    const rates = isConnected(connection) ? ratesByRegistry(this.#table.pulls.values()) : undefined
    // A gap in the chart means that the connection was lost. There are no samples before the initial state has arrived.
    if (counts !== undefined) this.#own = withSample(this.#own, { at: this.#now, rates })
    this.#redraw()
  }

  /** Once the five-second step in which the page was opened is complete, the server's newest history includes that step
   * as well. */
  #redraw(): void {
    const history = this.#changes.history ?? this.#snapshot.history
    this.#samples = history === undefined ? this.#own : withHistory(this.#own, history, this.clock.now())
    for (const listener of this.#tickListeners) listener()
  }
}

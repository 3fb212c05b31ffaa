/** The page's only store: the state from the stream and the lists, passed to React once per animation frame. */
import { type Context, contextOf, countStates, type StateCounts, waitingPods } from '../model/standing'
import { ratesByRegistry, type Sample, withHistory, withSample } from '../model/throughput'
import type { OpenedStream } from '../stream/open'
import { Poll, type PollResult } from '../stream/poll'
import type { WorkerEvent, WorkerRequest } from '../stream/protocol'
import {
  type NodeList,
  type PodList,
  type Pull,
  type PullEvent,
  parseNodeList,
  parsePodList,
  parsePull,
  parsePullList,
  parseThroughput,
  type ThroughputHistory,
} from '../wire/wire'
import { type Connection, type ConnectionEvent, connecting, isConnected, next } from './connection'
import { PullTable } from './pullTable'
import { RafBatcher } from './rafBatcher'
import { ServerClock } from './serverClock'

export interface Snapshot {
  /** The same map for the page's whole life; `version` increases when something in it changes. */
  readonly pulls: ReadonlyMap<string, Pull>
  readonly version: number
  readonly shape: number
  readonly context: Context
  /** Undefined until the server has sent its first state. */
  readonly counts: StateCounts | undefined
  readonly connection: Connection
  readonly serverVersion: string | undefined
  readonly nodes: NodeList | undefined
  /** `missing`: this server does not offer such a list. */
  readonly pods: PodList | 'missing' | undefined
  /** The throughput of the last minutes, as the server counted it. */
  readonly history: ThroughputHistory | undefined
}

export interface Pace {
  readonly nodesMs: number
  readonly podsMs: number
}

/** After a reset, the whole state follows immediately. The page shows the new state in one step after this delay. */
const RESET_HOLD_MS = 120
/** The number of events processed per frame. A hidden tab draws no frames, so it processes more at a time. */
const EVENTS_PER_FRAME = 250
const EVENTS_HIDDEN = 5000
/** The number of events processed at once after a reset, when nothing is drawn until the state is complete. */
const EVENTS_AT_RESET = 500
const OPEN_DEBOUNCE_MS = 120
const TICK_MS = 1000
/** If the stream has been silent for this long, a proxy may be holding it back. */
const SILENT_MS = 4000
export const POLL_MS = 3000
const HISTORY_MS = 10_000

/** Ids that are valid in the stream's address. If the key of an open row does not match, the link is invalid. */
const PULL_ID = /^(?!true$|false$)[\w.:~-]{1,200}$/

export class Store {
  readonly clock = new ServerClock(() => performance.now())
  readonly #base: string
  readonly #table = new PullTable()
  readonly #batcher = new RafBatcher(() => this.#flush())
  readonly #stream: OpenedStream
  readonly #nodes: Poll<NodeList>
  readonly #pods: Poll<PodList>
  /** Older servers do not provide a history; the chart then starts empty. */
  readonly #history: Poll<ThroughputHistory>
  readonly #pullsAddress: URL
  /** Polls the list of pulls while the stream is silent. */
  readonly #pulls: Poll<readonly Pull[]>
  #connection = connecting(Date.now())
  readonly #listeners = new Set<() => void>()
  readonly #tickListeners = new Set<() => void>()
  /** Whether events are waiting in the worker. */
  #more = false
  /** Whether the server is still sending the state. */
  #isSending = false
  #isRequested = false
  #open: readonly string[] = []
  /** Open rows whose layers have been requested once, separately from the stream. */
  readonly #layersRequested = new Set<string>()
  #openTimer: ReturnType<typeof setTimeout> | undefined
  #ticker: ReturnType<typeof setInterval> | undefined
  /** The page's own samples; `#samples` also contains the server's history. */
  #own: readonly Sample[] = []
  #samples: readonly Sample[] = []
  #now = Date.now()
  #changes: Partial<Snapshot> = {}
  #snapshot: Snapshot = {
    pulls: this.#table.pulls,
    version: 0,
    shape: 0,
    context: contextOf([], undefined, Date.now()),
    counts: undefined,
    connection: { kind: 'connecting' },
    serverVersion: undefined,
    nodes: undefined,
    pods: undefined,
    history: undefined,
  }

  /** `base` is the address of the page, including any path prefix. */
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
    this.#pods = new Poll(new URL('api/v1/pods', base), parsePodList, result => this.#takePods(result))
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

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  readonly snapshot = (): Snapshot => this.#snapshot

  /** Ticks once a second, for clocks and the throughput chart. */
  readonly subscribeTick = (listener: () => void): (() => void) => {
    this.#tickListeners.add(listener)
    return () => this.#tickListeners.delete(listener)
  }

  /** The server's time at the last tick, so that all clocks on the screen agree. */
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

  /** Requests layers for these pulls, because their rows are open. */
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

  /** The stream sends nothing for a pull that no longer changes, so its layers are requested separately. */
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
        this.#pulls.every(0)
        this.#change({ serverVersion: event.hello.version })
        this.#step(event)
        break
      case 'reset':
        this.#table.reset()
        this.#layersRequested.clear()
        this.#isSending = true
        if (this.#snapshot.counts !== undefined) this.#batcher.hold(RESET_HOLD_MS)
        break
      case 'lost':
        this.#step({ ...event, now: Date.now() })
        break
      case 'refused':
      case 'trying':
        this.#step(event)
        break
      case 'waiting':
        this.#more = true
        this.#requestState()
        break
      case 'events':
        this.#isSending = event.isPart
        this.#takeEvents(event.events, event.more)
        break
    }
  }

  #takeEvents(events: readonly PullEvent[], more: boolean): void {
    this.#isRequested = false
    this.#more = more
    for (const event of events) {
      this.clock.atLeast(event.timestamp)
      this.#table.apply(event)
    }
    this.#requestState()
  }

  /** The rest of a state is requested at once, and later changes once per frame. */
  #requestState(): void {
    if (this.#isPart()) this.#requestEvents(EVENTS_AT_RESET)
    this.#batcher.request()
  }

  #requestEvents(most: number): void {
    if (!this.#more || this.#isRequested) return
    this.#isRequested = true
    this.#request({ kind: 'next', most: document.hidden ? EVENTS_HIDDEN : most })
  }

  /** Whether more of the state after a reset is on its way. The state is shown in one step. */
  #isPart(): boolean {
    return this.#table.isReplaced && (this.#more || this.#isSending)
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

  #takePods(result: PollResult<PodList>): void {
    if (result.kind === 'failed') return
    const before = this.#changes.pods ?? this.#snapshot.pods
    const pods = result.kind === 'value' ? result.value : result.kind === 'missing' ? 'missing' : before
    if (pods !== undefined) this.#change({ pods, context: this.#context(pods) })
  }

  #context(pods: Snapshot['pods']): Context {
    const now = this.clock.now()
    return contextOf(this.#table.pulls.values(), waitingPods(pods, now), now)
  }

  #step(event: ConnectionEvent): void {
    const before = this.#connection.shown
    const { state, retry } = next(this.#connection, event)
    this.#connection = state
    if (state.shown !== before) this.#change({ connection: state.shown })
    else this.#batcher.request()
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
    this.#requestEvents(EVENTS_PER_FRAME)
    const isPart = this.#isPart()
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
      version: before.version + Number(changed),
      counts: isKnown && isCounted ? countStates(this.#table.pulls.values(), context) : before.counts,
    }
    if (changed) this.#requestMissingLayers()
    for (const listener of this.#listeners) listener()
    if (isKnown && before.counts === undefined) this.#tick()
  }

  #tick(): void {
    this.#now = this.clock.now()
    const { silentSince } = this.#connection
    if (silentSince !== undefined && Date.now() - silentSince >= SILENT_MS) this.#pulls.every(POLL_MS)
    const { connection, counts } = this.#snapshot
    const rates = isConnected(connection) ? ratesByRegistry(this.#table.pulls.values()) : undefined
    // A gap in the chart means that the connection was lost. Before the first state, there are no samples.
    if (counts !== undefined) this.#own = withSample(this.#own, { at: this.#now, rates })
    this.#redraw()
  }

  /** The server's newest history also contains the step in which the page was opened, once this step is complete. */
  #redraw(): void {
    const history = this.#changes.history ?? this.#snapshot.history
    this.#samples = history === undefined ? this.#own : withHistory(this.#own, history, this.clock.now())
    for (const listener of this.#tickListeners) listener()
  }
}

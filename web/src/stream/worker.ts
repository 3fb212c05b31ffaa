/**
 * Runs the stream in a worker. The browser delivers all events from one network read in a single task, so a burst of
 * two thousand events would block the page for several frames. The worker receives the events instead, and the page
 * requests only as many as fit into a frame.
 */
import { Inbox } from './inbox'
import type { WorkerEvent, WorkerRequest } from './protocol'
import { PullStream } from './pullStream'

const inbox = new Inbox()
let stream: PullStream | undefined
let isAnnounced = false
/** After a reset, this many events are sent before the page requests any. */
const FIRST = 100

function post(event: WorkerEvent): void {
  self.postMessage(event)
}

function send(most: number): void {
  const events = inbox.take(most)
  isAnnounced = inbox.size > 0
  post({ kind: 'events', events, more: isAnnounced, isPart: inbox.isPart })
}

function open(base: string): void {
  stream = new PullStream(base, {
    live: hello => post({ kind: 'live', hello }),
    reset: pulls => {
      inbox.reset(pulls)
      post({ kind: 'reset' })
      // The first events are sent in a later task, after all events that arrived together with the reset have been
      // stored.
      isAnnounced = true
      setTimeout(send, 0, FIRST)
    },
    event: data => {
      inbox.put(data)
      if (!isAnnounced) post({ kind: 'waiting' })
      isAnnounced = true
    },
    lost: retryAt => post({ kind: 'lost', retryAt }),
    refused: refusal => post({ kind: 'refused', refusal }),
    trying: () => post({ kind: 'trying' }),
  })
  stream.open()
  post({ kind: 'trying' })
}

self.addEventListener('message', ({ data: request }: MessageEvent<WorkerRequest>) => {
  if (request.kind === 'open') open(request.base)
  else if (request.kind === 'wantLayers') stream?.wantLayers(request.ids)
  else if (request.kind === 'retryNow') stream?.retryNow()
  else send(request.most)
})

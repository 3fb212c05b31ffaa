/**
 * The stream, in a worker. The browser hands over all events of one network read in one task: a burst of two thousand
 * would hold the page up for several frames. Here it holds up nobody, and the page asks for what a frame has time for.
 */
import { Inbox } from './inbox'
import type { Ask, Tell } from './protocol'
import { PullStream } from './pullStream'

const inbox = new Inbox()
let stream: PullStream | undefined
let said = false

function tell(message: Tell): void {
  self.postMessage(message)
}

function open(base: string): void {
  stream = new PullStream(base, {
    live: hello => tell({ kind: 'live', hello }),
    reset: () => {
      inbox.clear()
      tell({ kind: 'reset' })
    },
    told: data => {
      inbox.put(data)
      if (!said) tell({ kind: 'waiting' })
      said = true
    },
    lost: retryAt => tell({ kind: 'lost', retryAt }),
    trying: () => tell({ kind: 'trying' }),
  })
  stream.open()
}

self.addEventListener('message', ({ data: ask }: MessageEvent<Ask>) => {
  if (ask.kind === 'open') open(ask.base)
  else if (ask.kind === 'wantLayers') stream?.wantLayers(ask.ids)
  else if (ask.kind === 'retryNow') stream?.retryNow()
  else {
    const events = inbox.take(ask.most)
    said = !inbox.isEmpty
    tell({ kind: 'events', events, more: said })
  }
})

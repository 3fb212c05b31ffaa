/** The messages between the page and the worker that runs its stream. */
import type { Refusal } from '../store/connection'
import type { Hello, PullEvent } from '../wire/wire'

export type WorkerRequest =
  | { readonly kind: 'open'; readonly base: string }
  | { readonly kind: 'wantLayers'; readonly ids: readonly string[] }
  | { readonly kind: 'retryNow' }
  /** The page is ready to process up to `most` more events. */
  | { readonly kind: 'next'; readonly most: number }

export type WorkerEvent =
  | { readonly kind: 'live'; readonly hello: Hello }
  | { readonly kind: 'reset' }
  | { readonly kind: 'lost'; readonly retryAt: number }
  | { readonly kind: 'refused'; readonly refusal: Refusal }
  | { readonly kind: 'trying' }
  /** Events are waiting. This message is not repeated until the page has requested these events. */
  | { readonly kind: 'waiting' }
  | Events

/** The response to `next`, or the first events after a reset. `more` means that further events are waiting. `isPart`
 * means that the page has not received the complete state yet. */
export interface Events {
  readonly kind: 'events'
  readonly events: readonly PullEvent[]
  readonly more: boolean
  readonly isPart: boolean
}

/** What the page and its stream's worker say to each other. */
import type { Hello, PullEvent } from '../wire'

export type Ask =
  | { readonly kind: 'open'; readonly base: string }
  | { readonly kind: 'wantLayers'; readonly ids: readonly string[] }
  | { readonly kind: 'retryNow' }
  /** The page has time for so many events. */
  | { readonly kind: 'next'; readonly most: number }

export type Tell =
  | { readonly kind: 'live'; readonly hello: Hello }
  | { readonly kind: 'reset' }
  | { readonly kind: 'lost'; readonly retryAt: number }
  | { readonly kind: 'trying' }
  /** There is something to ask for. Said once, until it is asked for. */
  | { readonly kind: 'waiting' }
  /** The answer to `next`; `more` says that asking again is worth it. */
  | { readonly kind: 'events'; readonly events: readonly PullEvent[]; readonly more: boolean }

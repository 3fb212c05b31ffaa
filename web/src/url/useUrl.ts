/** The state that is stored in the URL, and functions that change it. */
import { useSyncExternalStore } from 'react'
import { linkTime, withLinkTimes } from '../model/query'
import type { Pull } from '../wire/wire'
import { pendingReveal, REGISTRIES } from './reveal'
import { readUrl, toggleOpen, type UrlState, type View, writeUrl } from './urlState'

const listeners = new Set<() => void>()
let search = window.location.search
let state = readUrl(search)

function current(): UrlState {
  if (window.location.search !== search) {
    search = window.location.search
    state = readUrl(search)
  }
  return state
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener)
  window.addEventListener('popstate', listener)
  return () => {
    listeners.delete(listener)
    window.removeEventListener('popstate', listener)
  }
}

export function useUrl(): UrlState {
  return useSyncExternalStore(subscribe, current)
}

/** Changing the view adds an entry to the browser's history; all other changes replace the current entry. */
export function changeUrl(change: Partial<UrlState>): void {
  const next = { ...current(), ...change }
  const address = addressOf(next)
  if (next.view === current().view) window.history.replaceState(null, '', address)
  else window.history.pushState(null, '', address)
  for (const listener of listeners) listener()
}

/** Opens or closes a row of the table. */
export function toggleRow(key: string): void {
  changeUrl({ open: toggleOpen(current().open, key) })
}

/** Shows the results of a search in a view, in the default order. If a key is given, opens the row with that key. */
export function showView(view: View, query: string, key?: string): void {
  pendingReveal.request(key)
  changeUrl(viewState(view, query, key))
}

/** Shows the Nodes view, and scrolls to its list of registries. */
export function showRegistries(): void {
  pendingReveal.request(REGISTRIES)
  changeUrl(viewState('nodes', ''))
}

export function showPulls(query: string, key?: string): void {
  showView('pulls', query, key)
}

function viewState(view: View, query: string, key?: string): UrlState {
  return { view, query, sort: undefined, open: key === undefined ? [] : [key] }
}

/** Opens a pull's own row in the Pulls view. */
export function showPull({ id, imageRef, nodeName }: Pull): void {
  showPulls(`image:${imageRef} node:${nodeName}`, id)
}

/** The page's URL with one pull open and the default order. If the list is that of a past moment, the link shows the
 * pull at that moment. */
export function linkTo(id: string, moment?: number): string {
  return addressOf(viewState('pulls', moment === undefined ? '' : `at:${linkTime(moment)}`, id))
}

/** A link to the current view of the page. The times in the link's search do not depend on when and where the link is
 * opened. */
export function linkToView(now: number): string {
  const state = current()
  return addressOf({ ...state, query: withLinkTimes(state.query, now) })
}

function addressOf(state: UrlState): string {
  const { origin, pathname } = window.location
  return `${origin}${pathname}${writeUrl(state)}`
}

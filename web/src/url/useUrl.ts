/** The state that the URL contains, and functions that change it. */
import { useSyncExternalStore } from 'react'
import { pendingReveal } from './reveal'
import { readUrl, type UrlState, writeUrl } from './urlState'

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

/** A change of the view adds a step for the Back button; all other changes replace the current step. */
export function changeUrl(change: Partial<UrlState>): void {
  const next = { ...current(), ...change }
  const address = `${window.location.pathname}${writeUrl(next)}`
  if (next.view === current().view) window.history.replaceState(null, '', address)
  else window.history.pushState(null, '', address)
  for (const listener of listeners) listener()
}

/** Shows the results of a search in the Pulls view, and opens the row with this key if one is given. */
export function showPulls(query: string, key: string | undefined): void {
  pendingReveal.request(key)
  changeUrl({ view: 'pulls', query, sort: undefined, open: key === undefined ? [] : [key] })
}

/** The page's URL with one pull open, without a search and with the default order. */
export function linkTo(id: string): string {
  const { origin, pathname } = window.location
  return `${origin}${pathname}${writeUrl({ view: 'pulls', query: '', sort: undefined, open: [id] })}`
}

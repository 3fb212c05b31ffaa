/** The state that is stored in the URL, and functions that change it. */
import { useSyncExternalStore } from 'react'
import type { Pull } from '../wire/wire'
import { pendingReveal } from './reveal'
import { readUrl, toggleOpen, type UrlState, writeUrl } from './urlState'

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
  const address = `${window.location.pathname}${writeUrl(next)}`
  if (next.view === current().view) window.history.replaceState(null, '', address)
  else window.history.pushState(null, '', address)
  for (const listener of listeners) listener()
}

/** Opens or closes a row of the table. */
export function toggleRow(key: string): void {
  changeUrl({ open: toggleOpen(current().open, key) })
}

/** Shows the results of a search in the Pulls view, and opens the row with the given key, if any. */
export function showPulls(query: string, key: string | undefined): void {
  pendingReveal.request(key)
  changeUrl({ view: 'pulls', query, sort: undefined, open: key === undefined ? [] : [key] })
}

/** Opens a pull's own row in the Pulls view. */
export function showPull({ id, imageRef, nodeName }: Pull): void {
  showPulls(`image:${imageRef} node:${nodeName}`, id)
}

/** The page's URL with one pull open, without a search and with the default order. */
export function linkTo(id: string): string {
  const { origin, pathname } = window.location
  return `${origin}${pathname}${writeUrl({ view: 'pulls', query: '', sort: undefined, open: [id] })}`
}

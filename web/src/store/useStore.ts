import { createContext, useContext, useSyncExternalStore } from 'react'
import type { Sample } from '../model/throughput'
import type { Snapshot } from './snapshot'
import type { Store } from './store'

export const StoreContext = createContext<Store | undefined>(undefined)

export function useStore(): Store {
  const store = useContext(StoreContext)
  if (store === undefined) throw new Error('no StoreContext around this component')
  return store
}

/** The state as of the last frame. A component that uses this hook is rendered again on every frame. */
export function useSnapshot(): Snapshot {
  const store = useStore()
  return useSyncExternalStore(store.subscribe, store.snapshot)
}

/** The server's time in milliseconds, updated once a second. */
export function useNow(): number {
  const store = useStore()
  return useSyncExternalStore(store.subscribeTick, store.now)
}

export function useSamples(): readonly Sample[] {
  const store = useStore()
  return useSyncExternalStore(store.subscribeTick, store.samples)
}

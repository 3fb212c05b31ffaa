import { useEffect } from 'react'
import styles from './App.module.css'
import { Announcer } from './components/Announcer'
import { Attention } from './components/Attention'
import { Header } from './components/Header'
import { NewBuild } from './components/NewBuild'
import { PollingNote } from './components/PollingNote'
import { SearchBox } from './components/SearchBox'
import { Throughput } from './components/Throughput'
import { Tiles } from './components/Tiles'
import { useStore } from './store/useStore'
import type { View } from './urlState'
import { useUrl } from './useUrl'
import { ImagesView } from './views/ImagesView'
import { NodesView } from './views/NodesView'
import { PodsView } from './views/PodsView'
import { PullsView } from './views/PullsView'

const PAGES: Readonly<Record<View, () => React.ReactNode>> = {
  pulls: PullsView,
  pods: PodsView,
  images: ImagesView,
  nodes: NodesView,
}

const NO_ROWS: readonly string[] = []
/** A list is asked for often while it is looked at; the header, the tiles and the strip are content with less. */
const WATCHED_MS = 2000
const GLANCED_MS = 5000

export function App() {
  const store = useStore()
  const { view, open } = useUrl()
  useEffect(() => store.setOpen(view === 'pulls' ? open : NO_ROWS), [store, view, open])
  useEffect(
    () =>
      store.pace({
        nodesMs: view === 'nodes' ? WATCHED_MS : GLANCED_MS,
        podsMs: view === 'pods' ? WATCHED_MS : GLANCED_MS,
      }),
    [store, view],
  )
  const Page = PAGES[view]
  return (
    <div className={styles.page}>
      <Header />
      <main className={styles.main}>
        <PollingNote />
        <NewBuild />
        <Attention />
        <div className={styles.summary}>
          <Throughput />
          <Tiles />
        </div>
        <SearchBox />
        <Page />
      </main>
      <Announcer />
    </div>
  )
}

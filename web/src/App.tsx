import { useEffect } from 'react'
import styles from './App.module.css'
import { Announcer } from './components/Announcer'
import { Attention } from './components/Attention'
import { Band } from './components/Band'
import { Header } from './components/Header'
import { Moment } from './components/Moment'
import { NewBuild } from './components/NewBuild'
import { PollingNote } from './components/PollingNote'
import { SearchBox } from './components/SearchBox'
import { useStore } from './store/useStore'
import type { View } from './url/urlState'
import { useUrl } from './url/useUrl'
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
/** The polling intervals for a list that the current view shows, and for a list that only the header, the tiles and the
 * strip use. */
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
        <Band />
        <SearchBox />
        <Moment />
        <Page />
      </main>
      <Announcer />
    </div>
  )
}

import { createRoot } from 'react-dom/client'
import { App } from './App'
import { ErrorBoundary } from './components/ErrorBoundary'
import { first, stream } from './main'
import { Store } from './store/store'
import { StoreContext } from './store/useStore'
import './styles/tokens.css'
import './styles/base.css'

/** If the first pulls take longer than this to arrive, the page is rendered without them. */
const FIRST_MS = 100

const root = document.getElementById('root')
if (root === null) throw new Error('index.html has no #root')

const store = new Store(document.baseURI, stream)
await Promise.race([store.showFirst(first), new Promise(resolve => setTimeout(resolve, FIRST_MS))])
store.start()
createRoot(root).render(
  <ErrorBoundary>
    <StoreContext value={store}>
      <App />
    </StoreContext>
  </ErrorBoundary>,
)

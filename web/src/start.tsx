import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { App } from './App'
import { ErrorBoundary } from './components/ErrorBoundary'
import { stream } from './main'
import { Store } from './store/store'
import { StoreContext } from './store/useStore'
import './styles/tokens.css'
import './styles/base.css'

const root = document.getElementById('root')
if (root === null) throw new Error('index.html has no #root')

await stream.started
const store = new Store(document.baseURI, stream)
store.start()
createRoot(root).render(
  <StrictMode>
    <ErrorBoundary>
      <StoreContext value={store}>
        <App />
      </StoreContext>
    </ErrorBoundary>
  </StrictMode>,
)

import { useState } from 'react'
import { useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import { Note } from './Note'

const KEY = 'pulltrace.reloadedFor'

/** Offers to reload the page when the server is running a different build. If the page has already been reloaded for
 * this server version, it does not offer another reload. */
export function NewBuild() {
  const { serverVersion } = useSnapshot()
  const [dismissed, setDismissed] = useState('')
  if (serverVersion === undefined || serverVersion === '' || serverVersion === __PULLTRACE_VERSION__)
    return null
  if (dismissed === serverVersion || reloadedFor() === serverVersion) return null
  const reload = () => {
    remember(serverVersion)
    window.location.reload()
  }
  return (
    <Note>
      The server is now Pulltrace {serverVersion}; this page is version {__PULLTRACE_VERSION__}.
      <button type="button" className={shared.button} onClick={reload}>
        Reload
      </button>
      <button type="button" className={shared.dim} onClick={() => setDismissed(serverVersion)}>
        Later
      </button>
    </Note>
  )
}

function reloadedFor(): string | null {
  try {
    return sessionStorage.getItem(KEY)
  } catch {
    return null
  }
}

function remember(version: string): void {
  try {
    sessionStorage.setItem(KEY, version)
  } catch {
    // If the browser blocks storage, the offer may appear twice.
  }
}

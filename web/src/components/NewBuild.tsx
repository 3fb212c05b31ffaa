import { useState } from 'react'
import { useSnapshot } from '../store/useStore'
import styles from './NewBuild.module.css'

const KEY = 'pulltrace.reloadedFor'

/** Offers a reload when the server is of another build than this page; once, for a reload that does not help must not nag. */
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
    <p className={styles.banner} role="status">
      The server is now Pulltrace {serverVersion}; this page is of {__PULLTRACE_VERSION__}.
      <button type="button" className={styles.reload} onClick={reload}>
        Reload
      </button>
      <button type="button" className={styles.later} onClick={() => setDismissed(serverVersion)}>
        Later
      </button>
    </p>
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
    // Storage can be forbidden; the offer may then come twice.
  }
}

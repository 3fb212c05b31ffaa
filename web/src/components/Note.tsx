import type { ReactNode } from 'react'
import styles from './Note.module.css'

/** A message at the top of the page about the page itself. For example, it reports that the connection is impaired,
 * that a new version is available, or that a row in the link no longer exists. */
export function Note({ children }: { readonly children: ReactNode }) {
  return (
    <p className={styles.note} role="status">
      {children}
    </p>
  )
}

import type { ReactNode } from 'react'
import styles from './Note.module.css'

/** One line above the content, about the page itself: its connection, its build or its link. */
export function Note({ children }: { readonly children: ReactNode }) {
  return (
    <p className={styles.note} role="status">
      {children}
    </p>
  )
}

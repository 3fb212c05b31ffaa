import type { ReactNode } from 'react'
import { Icon, type IconName } from './Icon'
import styles from './Notice.module.css'

interface Props {
  readonly icon: IconName
  readonly title: string
  readonly children?: ReactNode
}

/** A message in place of a table, explaining why there is no table and what to do next. */
export function Notice({ icon, title, children }: Props) {
  return (
    <section className={styles.notice}>
      <Icon name={icon} size={28} />
      <h2 className={styles.title}>{title}</h2>
      <div className={styles.text}>{children}</div>
    </section>
  )
}

import type { CSSProperties } from 'react'
import { classes } from '../classes'
import { splitName } from '../model/format'
import shared from '../styles/shared.module.css'
import styles from './Name.module.css'

interface Props {
  readonly name: string
  /** A prefix to show before the name, such as the namespace. */
  readonly before?: string
  readonly className?: string | undefined
}

/** The name of a pod, an owner or a node. Names often differ only at the end, so a long name is cut in the middle. The
 * tooltip and an open row show the full name. */
export function Name({ name, before = '', className }: Props) {
  const [start, end] = splitName(name)
  const widths = { '--before': `${before.length}ch`, '--end': `${end.length}ch` } as CSSProperties
  return (
    <span className={classes(shared.code, className)} title={before + name} style={widths}>
      {before !== '' && <bdi className={classes(shared.dim, styles.before)}>{before}</bdi>}
      <bdi className={styles.start}>{start}</bdi>
      <bdi>{end}</bdi>
    </span>
  )
}

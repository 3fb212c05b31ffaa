import { useSnapshot } from '../store/useStore'
import styles from './Agents.module.css'

/** How many of the known agents report. */
export function Agents() {
  const { nodes } = useSnapshot()
  if (nodes === undefined) return null
  const all = nodes.nodes.length
  const heard = nodes.nodes.filter(({ state }) => state !== 'lost').length
  return (
    <span className={styles.agents} title={`${heard} of ${all} agents report`}>
      agents{' '}
      <strong className={heard < all ? styles.missing : undefined}>
        {heard}/{all}
      </strong>
    </span>
  )
}

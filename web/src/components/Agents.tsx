import { useSnapshot } from '../store/useStore'
import styles from './Agents.module.css'

/** How many of the known agents are reporting. */
export function Agents() {
  const { nodes } = useSnapshot()
  if (nodes === undefined) return null
  const all = nodes.nodes.length
  const reporting = nodes.nodes.filter(({ state }) => state !== 'lost').length
  return (
    <span className={styles.agents} title={`${reporting} of ${all} agents report`}>
      agents{' '}
      <strong className={reporting < all ? styles.missing : undefined}>
        {reporting}/{all}
      </strong>
    </span>
  )
}

import { count, rate } from '../format'
import { changeUrl } from '../useUrl'
import type { Registry } from '../wire'
import styles from './NodesView.module.css'

/** The registries as all nodes together see them, the busiest first. */
export function Registries({ registries }: { readonly registries: readonly Registry[] }) {
  if (registries.length === 0) return null
  const order = [...registries].sort(
    (a, b) => b.bytesPerSec - a.bytesPerSec || a.registry.localeCompare(b.registry),
  )
  const most = Math.max(1, order[0]?.bytesPerSec ?? 0)
  return (
    <section className={styles.registries} aria-label="Registries">
      <h2 className={styles.title}>Registries</h2>
      <ul>
        {order.map(({ registry, activePulls, bytesPerSec }) => (
          <li key={registry} className={styles.registry}>
            <button
              type="button"
              className={styles.name}
              onClick={() =>
                changeUrl({ view: 'pulls', query: `registry:${registry}`, sort: undefined, open: [] })
              }
            >
              {registry}
            </button>
            <span className={styles.figure}>{rate(bytesPerSec)}</span>
            <span className={styles.track} aria-hidden="true">
              <span className={styles.share} style={{ width: `${(100 * bytesPerSec) / most}%` }} />
            </span>
            <span className={styles.dim}>{activePulls === 0 ? 'idle' : count(activePulls, 'pull')}</span>
          </li>
        ))}
      </ul>
    </section>
  )
}

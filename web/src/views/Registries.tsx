import { useMemo } from 'react'
import { classes } from '../classes'
import { groupBy } from '../model/failureGroups'
import { count, rate } from '../model/format'
import { registryOf } from '../model/images'
import { medianRate } from '../model/nodeRows'
import { pullState } from '../model/pullState'
import { useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import { changeUrl } from '../url/useUrl'
import type { Registry } from '../wire/wire'
import styles from './NodesView.module.css'

/** The registries of all nodes, in alphabetical order, so that each always has the same position. */
export function Registries({ registries }: { readonly registries: readonly Registry[] }) {
  const { pulls, shape, context } = useSnapshot()
  // `shape` increases when a pull changes its state.
  const byRegistry = useMemo(
    () => groupBy([...pulls.values()], pull => registryOf(pull.imageRef, pull.registry)),
    [pulls, shape],
  )
  const stalled = (registry: string) =>
    (byRegistry.get(registry) ?? []).filter(pull => pullState(pull) === 'stalled').length
  const usual = (registry: string) => {
    const speed = medianRate(byRegistry.get(registry) ?? [], context.now)
    return speed === undefined ? '' : `usually ${rate(speed)} for one pull`
  }
  if (registries.length === 0) return null
  const order = [...registries].sort((a, b) => a.registry.localeCompare(b.registry))
  const most = Math.max(1, ...order.map(({ bytesPerSec }) => bytesPerSec))
  return (
    <section className={classes(shared.panel, styles.registries)} aria-label="Registries">
      <h2 className={shared.heading}>Registries</h2>
      <ul>
        {order.map(({ registry, activePulls, bytesPerSec }) => (
          <li key={registry} className={styles.registry}>
            <button
              type="button"
              className={shared.code}
              onClick={() =>
                changeUrl({ view: 'pulls', query: `registry:${registry}`, sort: undefined, open: [] })
              }
            >
              {registry}
            </button>
            <span className={shared.figure}>{rate(bytesPerSec)}</span>
            <span className={styles.track} aria-hidden="true">
              <span className={styles.share} style={{ width: `${(100 * bytesPerSec) / most}%` }} />
            </span>
            <span className={classes(shared.dim, shared.small, styles.facts)}>
              <span>
                {activePulls === 0 ? 'idle' : count(activePulls, 'pull')}
                {stalled(registry) > 0 && (
                  <span className={shared.stalled}> {stalled(registry)} stalled</span>
                )}
              </span>
              <span>{usual(registry)}</span>
            </span>
          </li>
        ))}
      </ul>
    </section>
  )
}

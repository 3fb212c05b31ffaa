import { useLayoutEffect, useMemo, useRef } from 'react'
import { classes } from '../classes'
import { groupBy } from '../model/failureGroups'
import { bytes, count, joined, rate } from '../model/format'
import { registryOf } from '../model/images'
import { comparedRate } from '../model/limit'
import { currentRate, usualRate } from '../model/nodeRows'
import { pullState } from '../model/pullState'
import { periodWords } from '../model/throughput'
import { useNow, useSamples, useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import { pendingReveal, REGISTRIES } from '../url/reveal'
import { showPulls } from '../url/useUrl'
import type { Pull, Registry } from '../wire/wire'
import styles from './NodesView.module.css'

/** All registries in alphabetical order, so that each registry always has the same position. */
export function Registries({ registries }: { readonly registries: readonly Registry[] }) {
  const { pulls, shape, context, history } = useSnapshot()
  // The same rates as in the chart. The list of registries is older.
  const rates = useSamples().at(-1)?.rates
  const now = useNow()
  const section = useRef<HTMLElement>(null)
  useLayoutEffect(() => {
    if (pendingReveal.key() !== REGISTRIES || section.current === null) return
    pendingReveal.clear()
    section.current.scrollIntoView({ block: 'nearest' })
  })
  // The map of pulls is changed in place. `shape` is incremented whenever the state or the pods of a pull change.
  const byRegistry = useMemo(() => groupBy(pulls.values(), registryOf), [pulls, shape])
  if (registries.length === 0) return null
  const order = [...registries].sort((a, b) => a.registry.localeCompare(b.registry))
  const rateOf = ({ registry, bytesPerSec }: Registry) =>
    rates === undefined ? bytesPerSec : (rates.get(registry) ?? 0)
  const most = Math.max(1, ...order.map(rateOf))
  return (
    <section ref={section} className={classes(shared.panel, styles.registries)} aria-label="Registries">
      <h2 className={shared.heading}>Registries</h2>
      <ul>
        {order.map(item => {
          const { registry, activePulls } = item
          const bytesPerSec = rateOf(item)
          const ofRegistry = (byRegistry.get(registry) ?? []).flatMap(({ id }) => pulls.get(id) ?? [])
          const downloaded = history?.registries.find(line => line.registry === registry)?.downloadedBytes
          const stalled = ofRegistry.filter(pull => pullState(pull) === 'stalled').length
          return (
            <li key={registry} className={styles.registry}>
              <button type="button" className={shared.code} onClick={() => showPulls(`registry:${registry}`)}>
                {registry}
              </button>
              <span>
                <span className={shared.figure}>{rate(bytesPerSec)}</span>{' '}
                <span className={classes(shared.dim, shared.small)}>
                  now
                  {history && downloaded ? `; ${periodWords(history.since, now)}: ${bytes(downloaded)}` : ''}
                </span>
              </span>
              <span className={styles.track} aria-hidden="true">
                <span className={styles.share} style={{ width: `${(100 * bytesPerSec) / most}%` }} />
              </span>
              <span className={classes(shared.dim, shared.small, styles.facts)}>
                <span>
                  {activePulls === 0 ? 'idle' : count(activePulls, 'pull')}
                  {stalled > 0 && <span className={shared.stalled}> {stalled} stalled</span>}
                </span>
                <span>{perPull(ofRegistry, context.now)}</span>
              </span>
            </li>
          )
        })}
      </ul>
    </section>
  )
}

/** The current rate of a single download and the usual one on the same nodes: `5.0 MB/s per download on edge-1, about as
 * usual there (4.8 MB/s)`. If nothing is being downloaded, only the usual rate. */
function perPull(pulls: readonly Pull[], now: number): string {
  const current = currentRate(pulls, now)
  if (current === undefined) {
    const usual = usualRate(pulls, now)
    return usual === undefined ? '' : `usually ${rate(usual)} per download`
  }
  const { speed, usual, nodes } = current
  return joined(
    ', ',
    `${rate(speed)} per download on ${nodes.length === 1 ? nodes[0] : count(nodes.length, 'node')}`,
    usual === undefined ? 'no usual rate there yet' : comparedRate(speed, usual),
  )
}

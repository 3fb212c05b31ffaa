import { classes } from '../classes'
import { waitingPodCount } from '../podRows'
import type { StateCounts } from '../pullState'
import { toggleValue, valuesOf } from '../query'
import { useSnapshot } from '../store/useStore'
import { changeUrl, useUrl } from '../useUrl'
import styles from './Tiles.module.css'

type Filter = Exclude<keyof StateCounts, 'stalled'>

const FILTERS: readonly (readonly [Filter, string])[] = [
  ['queued', 'Queued'],
  ['downloading', 'Downloading'],
  ['extracting', 'Extracting'],
  ['failed', 'Failed'],
  ['done', 'Done'],
]

/** Counts of the whole cluster; each shows what it counted. */
export function Tiles() {
  const { counts, pulls, pods } = useSnapshot()
  const { query, view } = useUrl()
  const chosen = view === 'pulls' ? valuesOf(query, 'status') : []
  const waiting = waitingPodCount(pods, pulls.values())
  return (
    <ul className={styles.tiles} aria-label="Pulls by state">
      <li className={styles.cell}>
        <button
          type="button"
          className={classes(styles.tile, view === 'pods' && styles.chosen)}
          aria-pressed={view === 'pods'}
          onClick={() => changeUrl({ view: view === 'pods' ? 'pulls' : 'pods', sort: undefined, open: [] })}
        >
          <b className={styles.number}>{waiting}</b>
          <span className={styles.word}>Waiting pods</span>
        </button>
      </li>
      {FILTERS.map(([state, word]) => (
        <li key={state} className={styles.cell}>
          <button
            type="button"
            className={classes(styles.tile, chosen.includes(state) && styles.chosen)}
            aria-pressed={chosen.includes(state)}
            onClick={() =>
              changeUrl(
                view === 'pulls'
                  ? { query: toggleValue(query, 'status', state) }
                  : { view: 'pulls', query: `status:${state}`, sort: undefined, open: [] },
              )
            }
          >
            <b className={classes(styles.number, counts[state] > 0 ? styles[state] : styles.none)}>
              {counts[state]}
            </b>
            <span className={styles.word}>
              {word}
              {state === 'downloading' && counts.stalled > 0 && (
                <em className={styles.stalled}> {counts.stalled} stalled</em>
              )}
            </span>
          </button>
        </li>
      ))}
    </ul>
  )
}

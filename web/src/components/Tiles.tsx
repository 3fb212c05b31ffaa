import { classes } from '../classes'
import { waitingPodCount } from '../model/podRows'
import { toggleValue, valuesOf } from '../model/query'
import type { StateCounts } from '../model/standing'
import { useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import { changeUrl, useUrl } from '../url/useUrl'
import styles from './Tiles.module.css'

interface Filter {
  readonly state: Exclude<keyof StateCounts, 'stalled'>
  /** The value of `status:` that finds the pulls in the tile's count. */
  readonly word: string
  readonly title: string
}

const FILTERS: readonly Filter[] = [
  { state: 'queued', word: 'queued', title: 'Queued' },
  { state: 'downloading', word: 'downloading', title: 'Downloading' },
  { state: 'extracting', word: 'extracting', title: 'Extracting' },
  { state: 'failed', word: 'failing', title: 'Failing' },
  { state: 'done', word: 'done', title: 'Done' },
]

/** Counts of the whole cluster. A click on a tile shows only the pulls that it counts. */
export function Tiles() {
  const { view } = useUrl()
  return (
    <ul className={styles.tiles} aria-label="Pulls by state">
      <li>
        <button
          type="button"
          className={classes(styles.tile, view === 'pods' && styles.chosen)}
          aria-pressed={view === 'pods'}
          onClick={() => changeUrl({ view: view === 'pods' ? 'pulls' : 'pods', sort: undefined, open: [] })}
        >
          <WaitingPods />
        </button>
      </li>
      {FILTERS.map(filter => (
        <Tile key={filter.state} filter={filter} />
      ))}
    </ul>
  )
}

function WaitingPods() {
  const { counts, pods, pulls } = useSnapshot()
  const waiting = counts === undefined ? undefined : waitingPodCount(pods, pulls.values())
  return (
    <>
      <b className={classes(styles.number, waiting === 0 && shared.faint)}>{waiting ?? '–'}</b>
      <span className={styles.word}>Waiting pods</span>
    </>
  )
}

function Tile({ filter: { state, word, title } }: { readonly filter: Filter }) {
  const { counts } = useSnapshot()
  const { query, view } = useUrl()
  const isChosen = view === 'pulls' && valuesOf(query, 'status').includes(word)
  const number = counts?.[state]
  const stalled = state === 'downloading' ? (counts?.stalled ?? 0) : 0
  return (
    <li>
      <button
        type="button"
        className={classes(styles.tile, isChosen && styles.chosen)}
        aria-pressed={isChosen}
        onClick={() =>
          changeUrl(
            view === 'pulls'
              ? { query: toggleValue(query, 'status', word) }
              : { view: 'pulls', query: `status:${word}`, sort: undefined, open: [] },
          )
        }
      >
        <b className={classes(styles.number, number === 0 ? shared.faint : shared[state])}>{number ?? '–'}</b>
        <span className={styles.word}>
          {title}
          {stalled > 0 && <em className={styles.stalled}> {stalled} stalled</em>}
        </span>
      </button>
    </li>
  )
}

import { useMemo } from 'react'
import { classes } from '../classes'
import { secondOfDay, timeOfDay } from '../model/format'
import { waitingPodCount } from '../model/podRows'
import { toggleValue, valuesOf, withValues } from '../model/query'
import { firstDone, type StateCounts } from '../model/standing'
import { useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import { changeUrl, useUrl } from '../url/useUrl'
import styles from './Tiles.module.css'

interface Filter {
  readonly state: Exclude<keyof StateCounts, 'stalled'>
  /** The value of `status:` that selects the pulls counted in the tile. */
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

/** The counts for the whole cluster. Clicking a tile shows only the pulls that it counts. */
export function Tiles() {
  const { view } = useUrl()
  const { asOf, counts } = useSnapshot()
  const isOld = asOf !== undefined && counts !== undefined
  return (
    <ul
      className={classes(styles.tiles, isOld && styles.old)}
      aria-label="Pulls by state"
      title={isOld ? `as of ${secondOfDay(asOf)}` : undefined}
    >
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
  const [query, show] = useQuery()
  const isChosen = valuesOf(query, 'status').includes(word)
  const number = counts?.[state]
  return (
    <li>
      <button
        type="button"
        className={classes(styles.tile, isChosen && styles.chosen)}
        aria-pressed={isChosen}
        onClick={() => show(toggleValue(query, 'status', word))}
      >
        <b className={classes(styles.number, number === 0 ? shared.faint : shared[state])}>{number ?? '–'}</b>
        <span className={styles.word}>
          {title}
          {state === 'done' && <DoneSince />}
        </span>
      </button>
      {state === 'downloading' && <Stalled />}
    </li>
  )
}

/** The period that the count of completed pulls covers. */
function DoneSince() {
  const { counts, pulls } = useSnapshot()
  // `counts` changes whenever a pull has changed.
  const since = useMemo(() => firstDone(pulls.values()), [counts, pulls])
  return since === undefined ? null : (
    <span className={styles.since} title="Finished pulls are kept for a limited time.">
      {' '}
      since {timeOfDay(since)}
    </span>
  )
}

/** A tile for stalled pulls, which are also counted as downloading. */
function Stalled() {
  const { counts } = useSnapshot()
  const [query, show] = useQuery()
  const isChosen = valuesOf(query, 'status').join() === 'stalled'
  if (!counts?.stalled) return null
  return (
    <button
      type="button"
      className={classes(styles.tile, styles.stalled, isChosen && styles.chosen)}
      aria-pressed={isChosen}
      onClick={() => show(withValues(query, 'status', isChosen ? [] : ['stalled']))}
    >
      <b className={styles.number}>{counts.stalled}</b>
      <span>stalled</span>
    </button>
  )
}

/** The search text of the Pulls view, and a function that changes it. In all other views, the text is empty. */
function useQuery() {
  const { query, view } = useUrl()
  const isHere = view === 'pulls'
  const show = (changed: string) =>
    changeUrl({ query: changed, ...(!isHere && { view: 'pulls', sort: undefined, open: [] }) })
  return [isHere ? query : '', show] as const
}

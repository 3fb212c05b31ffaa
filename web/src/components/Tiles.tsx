import { type ReactNode, useMemo } from 'react'
import { classes } from '../classes'
import { secondOfDay, timeOfDay } from '../model/format'
import { waitingPodCount } from '../model/podRows'
import { toggleValue, valuesOf, withValues } from '../model/query'
import { firstDone, type StateCounts } from '../model/standing'
import { useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import { changeUrl, showPulls, showView, useUrl } from '../url/useUrl'
import styles from './Tiles.module.css'

interface Filter {
  readonly state: Exclude<keyof StateCounts, 'stalled'>
  /** The `status:` filter value that selects the pulls counted in the tile. */
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

/** The number of pulls in each state, for the whole cluster. Clicking a tile shows only the pulls that it counts. */
export function Tiles() {
  const { asOf, counts, pods, pulls } = useSnapshot()
  const { view, query } = useUrl()
  const isOld = asOf !== undefined && counts !== undefined
  const isPulls = view === 'pulls'
  const shown = isPulls ? query : ''
  const statuses = valuesOf(shown, 'status')
  const isStalled = statuses.join() === 'stalled'
  const show = (changed: string) => (isPulls ? changeUrl({ query: changed }) : showPulls(changed))
  return (
    <ul
      className={classes(styles.tiles, isOld && styles.old)}
      aria-label="Pulls by state"
      title={isOld ? `as of ${secondOfDay(asOf)}` : undefined}
    >
      <li>
        <Tile
          number={counts && waitingPodCount(pods, pulls.values())}
          isChosen={view === 'pods'}
          onClick={() => showView(view === 'pods' ? 'pulls' : 'pods', query)}
        >
          Waiting pods
        </Tile>
      </li>
      {FILTERS.map(({ state, word, title }) => (
        <li key={state}>
          <Tile
            number={counts?.[state]}
            look={shared[state]}
            isChosen={statuses.includes(word)}
            onClick={() => show(toggleValue(shown, 'status', word))}
          >
            {title}
            {state === 'done' && <DoneSince />}
          </Tile>
          {state === 'downloading' && !!counts?.stalled && (
            <Tile
              className={styles.stalled}
              number={counts.stalled}
              isChosen={isStalled}
              onClick={() => show(withValues(shown, 'status', isStalled ? [] : ['stalled']))}
            >
              stalled
            </Tile>
          )}
        </li>
      ))}
    </ul>
  )
}

interface TileProps {
  readonly number: number | undefined
  /** The colour of a number that is not zero. */
  readonly look?: string | undefined
  readonly className?: string | undefined
  readonly isChosen: boolean
  readonly onClick: () => void
  readonly children: ReactNode
}

function Tile({ number, look, className, isChosen, onClick, children }: TileProps) {
  return (
    <button
      type="button"
      className={classes(styles.tile, className, isChosen && styles.chosen)}
      aria-pressed={isChosen}
      onClick={onClick}
    >
      <b className={classes(styles.number, number === 0 ? shared.faint : look)}>{number ?? '–'}</b>
      <span className={styles.word}>{children}</span>
    </button>
  )
}

/** When the oldest completed pull ended. The server keeps completed pulls only for a limited time. */
export function useDoneSince(): number | undefined {
  const { counts, pulls } = useSnapshot()
  // `counts` changes whenever a pull changes.
  return useMemo(() => firstDone(pulls.values()), [counts, pulls])
}

/** The period that the count of completed pulls covers. */
function DoneSince() {
  const since = useDoneSince()
  return since === undefined ? null : (
    <span className={styles.since} title="Finished pulls are kept for a limited time.">
      {' '}
      since {timeOfDay(since)}
    </span>
  )
}

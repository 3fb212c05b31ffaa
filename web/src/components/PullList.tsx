/** Some pulls in brief, inside another row; each leads to its own. */
import { classes } from '../classes'
import { clock, percent } from '../format'
import { hasEnded, knownPercent, tookSeconds } from '../pullState'
import { changeUrl } from '../useUrl'
import type { Pull } from '../wire'
import { ImageLabel } from './ImageLabel'
import { ProgressBar } from './ProgressBar'
import styles from './PullList.module.css'
import { StateLabel } from './StateLabel'

interface Props {
  readonly pulls: readonly Pull[]
  /** What tells these pulls apart. */
  readonly name: 'node' | 'image'
}

const FIRST_SHOWN = 60

export function PullList({ pulls, name }: Props) {
  const rest = pulls.length - FIRST_SHOWN
  return (
    <>
      <ul className={classes(styles.list, name === 'node' && styles.nodes)}>
        {pulls.slice(0, FIRST_SHOWN).map(pull => (
          <li key={pull.id} className={styles.pull}>
            <StateLabel pull={pull} />
            <button
              type="button"
              className={styles.name}
              onClick={() =>
                changeUrl({
                  view: 'pulls',
                  query: `image:${pull.imageRef} node:${pull.nodeName}`,
                  sort: undefined,
                  open: [pull.id],
                })
              }
            >
              {name === 'node' ? (
                <bdi>{pull.nodeName}</bdi>
              ) : (
                <ImageLabel imageRef={pull.imageRef} guessed={pull.refGuessed} />
              )}
            </button>
            <ProgressBar pull={pull} />
            <span className={styles.figure}>{percent(knownPercent(pull))}</span>
            <span className={styles.figure}>{time(pull)}</span>
          </li>
        ))}
      </ul>
      {rest > 0 && <p className={styles.rest}>and {rest} more</p>}
    </>
  )
}

function time(pull: Pull): string {
  const seconds = hasEnded(pull) ? tookSeconds(pull) : pull.etaSeconds
  return seconds === undefined ? '–' : clock(seconds)
}

/** A short list of pulls inside another row; each links to its own row. */
import { classes } from '../classes'
import { percent, rate } from '../model/format'
import { averageRate, knownPercent } from '../model/pullState'
import { standing } from '../model/standing'
import { useSnapshot } from '../store/useStore'
import { showPulls } from '../url/useUrl'
import type { Pull } from '../wire/wire'
import { ImageLabel } from './ImageLabel'
import { ProgressBar } from './ProgressBar'
import styles from './PullList.module.css'
import { Reason } from './Reason'
import { StateLabel } from './StateLabel'
import { TimeLeft } from './TimeLeft'

interface Props {
  readonly pulls: readonly Pull[]
  /** How the list labels each pull: by its node or by its image. */
  readonly name: 'node' | 'image'
}

const FIRST_SHOWN = 60

export function PullList({ pulls, name }: Props) {
  const { context } = useSnapshot()
  const rest = pulls.length - FIRST_SHOWN
  return (
    <>
      <ul className={classes(styles.list, name === 'node' && styles.nodes)}>
        {pulls.slice(0, FIRST_SHOWN).map(pull => (
          <li key={pull.id} className={styles.pull}>
            <StateLabel pull={pull} muted={standing(pull, context) === 'past'} />
            <button
              type="button"
              className={styles.name}
              onClick={() => showPulls(`image:${pull.imageRef} node:${pull.nodeName}`, pull.id)}
            >
              {name === 'node' ? (
                <bdi>{pull.nodeName}</bdi>
              ) : (
                <ImageLabel imageRef={pull.imageRef} guessed={pull.refGuessed} />
              )}
            </button>
            <span className={styles.progress}>
              {pull.status === 'failed' ? <Reason pull={pull} /> : <ProgressBar pull={pull} />}
            </span>
            <span className={styles.figure}>{figure(pull)}</span>
            <span className={styles.figure}>
              <TimeLeft pull={pull} />
            </span>
          </li>
        ))}
      </ul>
      {rest > 0 && <p className={styles.rest}>and {rest} more</p>}
    </>
  )
}

/** The current speed, so that nodes can be compared; the percentage if there is no speed. */
function figure(pull: Pull): string {
  if (pull.status === 'failed') return ''
  const speed = averageRate(pull) ?? (pull.status === 'downloading' ? pull.bytesPerSec : undefined)
  return speed === undefined ? percent(knownPercent(pull)) : rate(speed)
}

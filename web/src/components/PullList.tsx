/** A short list of pulls within another row. Each entry links to the pull's own row. */
import { useMemo } from 'react'
import { classes } from '../classes'
import { joined, listed, rate } from '../model/format'
import { hasEnded, hasFailed, progressFigure, shownRate } from '../model/pullState'
import { blockedWords, livePulls, placeWords, type QueuePlace, queuePlace } from '../model/queue'
import { podName, standing } from '../model/standing'
import { useSnapshot } from '../store/useStore'
import { showPull } from '../url/useUrl'
import type { Pull } from '../wire/wire'
import { ImageLabel } from './ImageLabel'
import { ProgressBar } from './ProgressBar'
import styles from './PullList.module.css'
import { Reason } from './Reason'
import { StateLabel } from './StateLabel'
import { QueueTime, TimeLeft } from './TimeLeft'

interface Props {
  readonly pulls: readonly Pull[]
  /** Whether the list identifies each pull by its node or by its image. */
  readonly name: 'node' | 'image'
}

const FIRST_SHOWN = 60

export function PullList({ pulls, name }: Props) {
  const { context, pulls: all, shape } = useSnapshot()
  // The map of pulls is modified in place, so its identity does not change. `shape` is incremented whenever a pull's
  // state or pods change.
  const live = useMemo(() => livePulls(all.values()), [all, shape])
  const rest = pulls.length - FIRST_SHOWN
  return (
    <>
      <ul className={classes(styles.list, name === 'node' && styles.nodes)}>
        {pulls.slice(0, FIRST_SHOWN).map(pull => {
          const place = queuePlace(pull, live)
          const words = place === undefined ? blockedWords(pull, live) : queuedWords(pull, place)
          return (
            <li key={pull.id} className={styles.pull}>
              <StateLabel pull={pull} muted={standing(pull, context) === 'past'} />
              <button type="button" className={styles.name} onClick={() => showPull(pull)}>
                {name === 'node' ? (
                  <bdi>{pull.nodeName}</bdi>
                ) : (
                  <ImageLabel imageRef={pull.imageRef} guessed={pull.refGuessed} />
                )}
              </button>
              {words === '' ? (
                <>
                  <span className={styles.progress}>
                    {hasFailed(pull) ? <Reason pull={pull} /> : <ProgressBar pull={pull} />}
                  </span>
                  <Figure pull={pull} isCompared={name === 'node'} />
                </>
              ) : (
                <span className={styles.queued}>{words}</span>
              )}
              <span className={styles.figure}>
                {place === undefined ? <TimeLeft pull={pull} /> : <QueueTime pull={pull} place={place} />}
              </span>
            </li>
          )
        })}
      </ul>
      {rest > 0 && <p className={styles.rest}>and {rest} more</p>}
    </>
  )
}

/** `2nd in queue, for shop/cart-0 and 2 more` */
function queuedWords({ pods }: Pull, place: QueuePlace): string {
  const names = [...new Set(pods.map(podName))]
  return joined(', ', placeWords(place), names.length > 0 && `for ${listed(names, 1)}`)
}

/** The pull's speed, or its progress if the speed is unknown. A list of nodes shows both while a pull is running. */
function Figure({ pull, isCompared }: { readonly pull: Pull; readonly isCompared: boolean }) {
  const speed = shownRate(pull)
  const progress = progressFigure(pull)
  if (hasFailed(pull)) return <span />
  if (speed === undefined) return <span className={styles.figure}>{progress || '–'}</span>
  return (
    <span className={styles.figure}>
      {isCompared && !hasEnded(pull) && progress !== '' && (
        <span className={styles.percent}>{progress} · </span>
      )}
      {rate(speed)}
    </span>
  )
}

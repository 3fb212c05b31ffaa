import { ago, clock, count } from '../model/format'
import { imageName } from '../model/images'
import { lastEnded } from '../model/quiet'
import { isConnected } from '../store/connection'
import { useNow, useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import { linkTo, showPulls } from '../url/useUrl'
import styles from './Attention.module.css'
import { Icon } from './Icon'

/** The strip while there are no problems. It takes up the same space, so that the page does not jump when a problem
 * appears. */
export function Quiet() {
  const { counts, connection } = useSnapshot()
  if (counts === undefined || !isConnected(connection)) return <p className={styles.quiet} />
  const active = counts.queued + counts.downloading + counts.extracting
  return (
    <p className={styles.quiet}>
      <Icon name="done" size={18} />
      <span className={shared.cut}>
        {active > 0 ? `${count(active, 'pull')} under way, no problems.` : <LastPull />}
      </span>
    </p>
  )
}

function LastPull() {
  const { pulls } = useSnapshot()
  const now = useNow()
  const last = lastEnded(pulls.values())
  if (last === undefined) return 'No image is being pulled.'
  const { repository, tag } = imageName(last.pull.imageRef)
  return (
    <>
      No image is being pulled. The last pull ended {ago((now - last.endedAt) / 1000)}:{' '}
      <a
        className={shared.link}
        href={linkTo(last.pull.id)}
        onClick={event => {
          event.preventDefault()
          showPulls('', last.pull.id)
        }}
      >
        {repository}
        {tag}
      </a>{' '}
      on {last.pull.nodeName}, {clock((last.endedAt - last.pull.startedAt) / 1000)}.
    </>
  )
}

import { ago, clock, count, secondOfDay } from '../model/format'
import { shortName } from '../model/limit'
import { lastEnded } from '../model/quiet'
import { activeCount } from '../model/standing'
import { isConnected } from '../store/connection'
import { useNow, useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import { linkTo, showPulls } from '../url/useUrl'
import styles from './Attention.module.css'
import { Icon } from './Icon'

/** The strip that is shown when there are no problems. It is as tall as the strip that lists problems, so the page does
 * not jump when a problem occurs. */
export function Quiet() {
  const { counts, connection, asOf } = useSnapshot()
  if (counts !== undefined && asOf !== undefined)
    return <p className={styles.quiet}>The figures are as of {secondOfDay(asOf)}.</p>
  if (counts === undefined || !isConnected(connection)) return <p className={styles.quiet} />
  const active = activeCount(counts)
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
  const { completedAt: endedAt = now } = last
  return (
    <>
      No image is being pulled. The last pull ended {ago((now - endedAt) / 1000)}:{' '}
      <a
        className={shared.link}
        href={linkTo(last.id)}
        onClick={event => {
          event.preventDefault()
          showPulls('', last.id)
        }}
      >
        {shortName(last)}
      </a>{' '}
      on {last.nodeName}, {clock((endedAt - last.startedAt) / 1000)}.
    </>
  )
}

import { Failure } from '../components/Failure'
import { PullList } from '../components/PullList'
import styles from './PullDetail.module.css'
import { imageCount, type ShownRow } from './pullColumns'

/** Several failures with one cause: the error once, and each pull in a line. */
export function GroupDetail({ row: { pull, pulls } }: { readonly row: ShownRow }) {
  return (
    <div className={styles.detail}>
      <Failure pull={pull} />
      <PullList pulls={pulls} name={imageCount(pulls) === 1 ? 'node' : 'both'} />
    </div>
  )
}

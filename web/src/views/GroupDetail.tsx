import { Failure } from '../components/Failure'
import { ImageLabel } from '../components/ImageLabel'
import { PullList } from '../components/PullList'
import { groupBy, imageCount } from '../model/failureGroups'
import { count } from '../model/format'
import { pullState } from '../model/pullState'
import shared from '../styles/shared.module.css'
import { showPulls } from '../url/useUrl'
import type { Pull } from '../wire/wire'
import styles from './PullDetail.module.css'
import type { ShownRow } from './pullColumns'

/** The details of a row that combines several pulls. Failures with the same cause show the error once, and one line for
 * each node or image. Completed pulls of an image on a node are shown on separate lines, newest first. */
export function GroupDetail({ row: { pull, pulls } }: { readonly row: ShownRow }) {
  return (
    <div className={styles.detail}>
      {pullState(pull) === 'failed' && <Failure pull={pull} pulls={pulls} />}
      {imageCount(pulls) === 1 ? <PullList pulls={pulls} name="node" /> : <Images pulls={pulls} />}
    </div>
  )
}

function Images({ pulls }: { readonly pulls: readonly Pull[] }) {
  const images = [...groupBy(pulls, ({ imageRef }) => imageRef)]
  return (
    <ul className={styles.images}>
      {images.map(([imageRef, ofImage]) => (
        <li key={imageRef}>
          <button
            type="button"
            className={styles.image}
            onClick={() => showPulls(`image:${imageRef} status:failed`)}
          >
            <ImageLabel imageRef={imageRef} />
            <span className={shared.dim}>{count(ofImage.length, 'node')}</span>
          </button>
        </li>
      ))}
    </ul>
  )
}

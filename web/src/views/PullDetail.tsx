import { CopyButton } from '../components/CopyButton'
import { Waterfall } from '../components/Waterfall'
import { bytes, clock, count, rate } from '../format'
import { averageRate, hasEnded, progressUnavailable, tookSeconds } from '../pullState'
import { useNow } from '../store/useStore'
import type { PodRef, Pull } from '../wire'
import styles from './PullDetail.module.css'

export function PullDetail({ pull }: { readonly pull: Pull }) {
  return (
    <div className={styles.detail}>
      <div className={styles.top}>
        <p className={styles.facts}>{facts(pull).join(' · ')}</p>
        <div className={styles.actions}>
          <CopyButton text={pull.imageRef}>reference</CopyButton>
          {pull.manifestDigest !== undefined && <CopyButton text={pull.manifestDigest}>digest</CopyButton>}
          {pull.pods[0] !== undefined && (
            <CopyButton text={describeLine(pull.pods[0])}>kubectl describe</CopyButton>
          )}
        </div>
      </div>
      {pull.error !== undefined && <Failure pull={pull} error={pull.error} />}
      {pull.pods.length > 0 && <Pods pods={pull.pods} />}
      <Layers pull={pull} />
    </div>
  )
}

function describeLine({ namespace, podName }: PodRef): string {
  return `kubectl -n ${namespace} describe pod ${podName}`
}

function facts(pull: Pull): readonly string[] {
  const took = tookSeconds(pull)
  const average = averageRate(pull)
  return [
    ...(pull.imageBytes > 0 ? [`${bytes(pull.imageBytes)} image`] : []),
    ...(pull.cachedBytes > 0 ? [`${bytes(pull.cachedBytes)} of it already on the node`] : []),
    ...(pull.layerCount > 0 ? [count(pull.layerCount, 'layer')] : []),
    ...(pull.attempt > 1 ? [`attempt ${pull.attempt}`] : []),
    ...(took !== undefined && hasEnded(pull)
      ? [`${pull.status === 'failed' ? 'gave up after' : 'took'} ${clock(took)}`]
      : []),
    ...(average !== undefined ? [`${rate(average)} on average`] : []),
    ...(pull.refGuessed ? ['the tag is a guess'] : []),
  ]
}

function Failure({ pull, error }: { readonly pull: Pull; readonly error: string }) {
  const now = useNow()
  const retry = pull.nextRetryAt
  return (
    <div className={styles.failure}>
      <p className={styles.error}>{error}</p>
      <p className={styles.retry}>
        Attempt {pull.attempt}
        {retry !== undefined &&
          (retry > now ? `; next try in about ${clock((retry - now) / 1000)}` : '; the next try is due')}
      </p>
    </div>
  )
}

function Pods({ pods }: { readonly pods: readonly PodRef[] }) {
  return (
    <ul className={styles.pods} aria-label="Pods that wait for this image">
      {pods.map(pod => (
        <li
          key={`${pod.namespace}/${pod.podName}/${pod.container}`}
          className={styles.pod}
          title={pod.waitingReason}
        >
          <bdi className={styles.dim}>{pod.namespace}/</bdi>
          <bdi>{pod.podName}</bdi>
          <bdi className={styles.container}>{pod.container}</bdi>
          {pod.owner !== undefined && <bdi className={styles.dim}>{pod.owner}</bdi>}
        </li>
      ))}
    </ul>
  )
}

function Layers({ pull }: { readonly pull: Pull }) {
  if (progressUnavailable(pull)) {
    return (
      <p className={styles.note}>
        Progress is not available: the {pull.snapshotter} snapshotter fetches content as the container reads
        it.
      </p>
    )
  }
  if (pull.layers === undefined) return <p className={styles.note}>Asking for the layers…</p>
  if (pull.layers.length === 0) {
    return (
      <p className={styles.note}>
        {pull.status === 'queued'
          ? 'The node has not begun with this image.'
          : hasEnded(pull)
            ? 'No layer of this image was seen.'
            : 'The layers are known as soon as the manifest is here.'}
      </p>
    )
  }
  return <Waterfall pull={pull} />
}

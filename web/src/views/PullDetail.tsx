import { useState } from 'react'
import { CopyButton } from '../components/CopyButton'
import { DescribePod } from '../components/DescribePod'
import { Failure } from '../components/Failure'
import { GUESSED } from '../components/ImageLabel'
import { PullList } from '../components/PullList'
import { Waterfall } from '../components/Waterfall'
import { isNotTried } from '../model/attention'
import { causeWords, failingWords } from '../model/failureGroups'
import { bytes, clock, count, exactTime, joined, percent, rate, secondOfDay } from '../model/format'
import { asUsualWords, basisWords, explanation, usualWords } from '../model/limit'
import {
  averageRate,
  hasEnded,
  hasFailed,
  neverBegan,
  pullState,
  remainingSeconds,
  stopped,
  tookSeconds,
} from '../model/pullState'
import { pullText } from '../model/pullText'
import { type Context, podName, waitedNames, waitersOf } from '../model/standing'
import { useNow, useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import { linkTo } from '../url/useUrl'
import type { Attempt, PodRef, Pull } from '../wire/wire'
import styles from './PullDetail.module.css'
import type { ShownRow } from './pullColumns'

export function PullDetail({ row }: { readonly row: ShownRow }) {
  const { pull, place, blocked } = row
  const { pulls, context } = useSnapshot()
  const now = useNow()
  const sentence =
    pullState(pull) === 'cancelled'
      ? cancelled(row, context)
      : explanation(blocked, pull, place, pulls.values(), now)
  const waiters = waitersOf(pull, context)
  return (
    <div className={styles.detail}>
      <div className={shared.bar}>
        <p className={styles.facts}>{facts(pull, context, now)}</p>
        <Actions pull={pull} sentence={sentence} moment={row.moment} />
      </div>
      {sentence !== undefined && <p className={styles.limit}>{sentence}</p>}
      {pullState(pull) === 'failed' && <Failure pull={pull} />}
      {pullState(pull) === 'cancelled' && pull.error !== undefined && (
        <p className={shared.error}>{pull.error}</p>
      )}
      {pull.attempt > 1 && !isNotTried(pull) && <Earlier pull={pull} />}
      {waiters.length > 0 && <Pods pods={waiters} />}
      {place !== undefined && place.ahead.length > 0 && (
        <section aria-label="Ahead in the queue of this node">
          <PullList pulls={place.ahead.flatMap(({ id }) => pulls.get(id) ?? [])} name="image" />
        </section>
      )}
      <Layers pull={pull} />
    </div>
  )
}

/** Describes only what was observed, and does not guess the cause. */
function cancelled({ pull, waiters }: ShownRow, context: Context): string {
  const gone = waitedNames(pull, context)
  const rest =
    waiters === 0
      ? 'no pod is waiting for it any more'
      : `${count(waiters, 'pod is waiting', 'pods are waiting')}, so the kubelet tries again`
  const attempt = pull.attempt > 1 ? `Attempt ${pull.attempt}` : 'The pull'
  return `${attempt} ${stopped(pull)}; ${rest}.${gone === '' ? '' : ` ${gone} waited for it.`}`
}

/** Maximum number of attempts that the server keeps. */
const MOST_KEPT = 10

function Earlier({ pull: { attempt, earlier } }: { readonly pull: Pull }) {
  const missing = attempt - 1 - earlier.length
  return (
    <ul className={styles.attempts} aria-label="Earlier attempts">
      {[...earlier].reverse().map(one => (
        <li key={one.attempt} title={one.error}>
          {attemptWords(one)}
        </li>
      ))}
      {missing > 0 && (
        <li>
          {count(missing, 'older attempt')} not listed: the server{' '}
          {earlier.length < MOST_KEPT ? 'did not observe them' : `keeps the last ${MOST_KEPT}`}
        </li>
      )}
    </ul>
  )
}

/** `Attempt 6 · 20:13:05, 2 s · not found`; without a start time, `until 20:13:07`. */
function attemptWords(one: Attempt): string {
  const { attempt, startedAt, completedAt, percent: done } = one
  const when =
    startedAt === undefined
      ? `until ${secondOfDay(completedAt)}`
      : `${secondOfDay(startedAt)}, ${clock((completedAt - startedAt) / 1000)}`
  return `Attempt ${attempt} · ${when} · ${causeWords(one)}${done > 0 ? ` at ${percent(done)}` : ''}`
}

function Actions({
  pull,
  sentence,
  moment,
}: {
  readonly pull: Pull
  readonly sentence: string | undefined
  readonly moment: number | undefined
}) {
  const { context } = useSnapshot()
  const [pod] = waitersOf(pull, context)
  const now = useNow()
  const link = linkTo(pull.id, moment)
  return (
    <div className={styles.actions}>
      <CopyButton text={link}>link</CopyButton>
      <CopyButton text={pullText(pull, sentence, link, context, now)}>text</CopyButton>
      <CopyButton text={pull.imageRef}>reference</CopyButton>
      {pull.manifestDigest !== undefined && <CopyButton text={pull.manifestDigest}>digest</CopyButton>}
      {pod !== undefined && <DescribePod pod={pod} />}
    </div>
  )
}

/** Whether the kubelet has requested the image even though no pull has been observed. */
const isRequested = ({ status }: Pull): boolean => status === 'queued' || status === 'unobserved'

function facts(pull: Pull, context: Context, now: number): string {
  const took = tookSeconds(pull)
  const average = averageRate(pull)
  const isFailed = hasFailed(pull)
  const waited = pull.waited.length > 0 && pullState(pull) !== 'cancelled' && waitedNames(pull, context)
  const ended = isFailed ? 'ended after' : 'took'
  return joined(
    ' · ',
    pull.imageBytes > 0 && `${bytes(pull.imageBytes)} image`,
    pull.cachedBytes > 0 && `${bytes(pull.cachedBytes)} of it already on the node`,
    pull.remoteBytes > 0 && `${bytes(pull.remoteBytes)} served on demand`,
    pull.layerCount > 0 && count(pull.layerCount, 'layer'),
    pull.attempt > 1 && !isFailed && `attempt ${pull.attempt}`,
    !isFailed && pull.failingSince !== undefined && failingWords([pull], context, now),
    `${isRequested(pull) || neverBegan(pull) ? 'requested' : 'started'} ${exactTime(pull.startedAt)}`,
    neverBegan(pull) && 'never began',
    runningWords(pull, now),
    took !== undefined && hasEnded(pull) && `${ended} ${clock(took)}`,
    average !== undefined && `${rate(average)} on average while downloading`,
    pull.usualSeconds !== undefined &&
      pull.slowerThanUsual === undefined &&
      `usually ${usualWords(pull, pull.usualSeconds)}${basisWords(pull)}`,
    pull.etaMissing !== undefined && !hasEnded(pull) && `no estimate: ${pull.etaMissing}`,
    waited && `${waited} waited earlier`,
    pull.via.length > 0 && `via ${pull.via.join(', ')}`,
    pull.refGuessed && GUESSED,
  )
}

/** `running for 1:27, about 3:50 in all, about as usual`; empty if the pull is not running. */
function runningWords(pull: Pull, now: number): string {
  if (hasEnded(pull) || hasFailed(pull) || isRequested(pull)) return ''
  const ran = Math.max(0, now - pull.startedAt) / 1000
  const left = remainingSeconds(pull, now)
  return joined(
    ', ',
    `running for ${clock(ran)}`,
    left !== undefined && `about ${clock(ran + left)} in all`,
    left !== undefined && asUsualWords(pull, ran + left),
  )
}

const FIRST_PODS = 30

function Pods({ pods }: { readonly pods: readonly PodRef[] }) {
  const [all, setAll] = useState(false)
  const rest = pods.length - FIRST_PODS
  return (
    <ul className={styles.pods} aria-label="Pods waiting for this image">
      {(all ? pods : pods.slice(0, FIRST_PODS)).map(pod => (
        <li key={`${podName(pod)}/${pod.container}`} className={styles.pod} title={pod.waitingReason}>
          <bdi className={shared.dim}>{pod.namespace}/</bdi>
          <bdi>{pod.podName}</bdi>
          <bdi className={shared.dim}>{pod.container}</bdi>
          {pod.owner !== undefined && <bdi className={shared.dim}>{pod.owner}</bdi>}
        </li>
      ))}
      {rest > 0 && !all && (
        <li>
          <button type="button" className={shared.link} onClick={() => setAll(true)}>
            and {rest} more
          </button>
        </li>
      )}
    </ul>
  )
}

function Layers({ pull }: { readonly pull: Pull }) {
  if (pull.layers === undefined) return <p className={shared.dim}>Loading the layers…</p>
  if (pull.layers.length > 0) return <Waterfall pull={pull} />
  return <p className={shared.dim}>{noLayers(pull)}</p>
}

function noLayers(pull: Pull): string {
  if (pull.status === 'queued') return 'The node has not started to pull this image.'
  if (pull.status === 'unobserved') return 'No agent observes this node, so the progress is not known.'
  if (hasEnded(pull)) {
    return `No layer of ${pull.attempt > 1 ? `attempt ${pull.attempt}` : 'this attempt'} is known.`
  }
  return pull.snapshotter === undefined || pull.snapshotter === 'overlayfs'
    ? 'The layers will be known once the manifest has arrived.'
    : `No layer is known yet; the ${pull.snapshotter} snapshotter may fetch content when the container reads it.`
}

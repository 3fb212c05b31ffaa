import { classes } from '../classes'
import { axisTime, bytes, clock, ofTotal, rate, shortDigest } from '../model/format'
import { pullState } from '../model/pullState'
import { blockingLayer, fetcherOf, type Lane, layerRate, type Phase, waterfall } from '../model/waterfall'
import { useNow } from '../store/useStore'
import type { Layer, Pull } from '../wire/wire'
import styles from './Waterfall.module.css'

/** The lane colours, which are also explained in the help. */
export const LEGEND: readonly (readonly [Phase, string])[] = [
  ['cached', 'already on the node'],
  ['remote', 'served by the snapshotter on demand'],
  ['waiting', 'waiting'],
  ['downloading', 'downloading'],
  ['borrowed', 'fetched by another pull'],
  ['downloaded', 'downloaded, not yet unpacked'],
  ['extracting', 'unpacking'],
  ['failed', 'failed'],
]

export function Waterfall({ pull }: { readonly pull: Pull }) {
  const now = useNow()
  const { lanes, ticks, now: present, readySeconds } = waterfall(pull, now)
  const elapsed = (now - pull.startedAt) / 1000
  const shown = new Set(lanes.flatMap(({ segments }) => segments.map(({ phase }) => phase)))
  return (
    <figure className={styles.waterfall} aria-label="Layers in the order of the manifest">
      <div className={styles.axis} aria-hidden="true">
        <div className={styles.scale}>
          {ticks.map(({ at, seconds }) => (
            <span key={seconds} className={styles.tick} style={{ left: `${at * 100}%` }}>
              {seconds === 0 ? 'start' : axisTime(seconds)}
            </span>
          ))}
          {readySeconds !== undefined && (
            <span className={styles.ready}>ready in ≈ {clock(Math.max(0, readySeconds - elapsed))}</span>
          )}
        </div>
      </div>
      <ol className={styles.lanes}>
        {lanes.map(lane => (
          <LaneRow key={lane.layer.digest} lane={lane} pull={pull} />
        ))}
        {present !== undefined && (
          <li aria-hidden="true" className={styles.overlay}>
            <span className={styles.now} style={{ left: `${present * 100}%` }} />
          </li>
        )}
      </ol>
      <figcaption className={styles.legend} aria-hidden="true">
        {LEGEND.filter(([phase]) => shown.has(phase)).map(([phase, word]) => (
          <span key={phase} className={styles.key}>
            <i className={classes(styles.swatch, styles[phase])} /> {word}
          </span>
        ))}
      </figcaption>
    </figure>
  )
}

interface LaneProps {
  readonly lane: Lane
  readonly pull: Pull
}

function LaneRow({ lane: { layer, segments }, pull }: LaneProps) {
  const words = describe(layer, pull)
  return (
    <li className={styles.lane} title={`${layer.digest}\n${bytes(layer.totalBytes)} · ${words}`}>
      <code className={styles.digest}>{shortDigest(layer.digest)}</code>
      <span className={styles.size}>
        {layer.totalKnown || layer.totalBytes > 0 ? bytes(layer.totalBytes) : '–'}
      </span>
      <span className={styles.track} aria-hidden="true">
        {segments.map(({ phase, from, to }) => (
          <span
            key={phase}
            className={classes(styles.segment, styles[phase])}
            style={{ left: `${from * 100}%`, width: `${(to - from) * 100}%` }}
          />
        ))}
      </span>
      <span className={styles.words}>{words}</span>
    </li>
  )
}

const FETCHED_BY = { snapshotter: 'fetched by the snapshotter', 'other pull': 'fetched by another pull' }

/** Describes a layer's lane in words, which screen readers announce instead of the lane. */
function describe(layer: Layer, pull: Pull): string {
  const speed = layerRate(layer)
  const fetcher = fetcherOf(layer, pull)
  const source = fetcher === undefined ? '' : ` · ${FETCHED_BY[fetcher]}`
  const details = `${speed === undefined ? '' : ` · ${rate(speed)}`}${source}`
  const hasFailed = pull.status === 'failed'
  const ended = pullState(pull) === 'cancelled' ? 'stopped' : 'failed'
  switch (layer.state) {
    case 'cached':
      return 'already on the node'
    case 'remote':
      return 'served by the snapshotter on demand'
    case 'waiting':
      if (hasFailed) return 'not started'
      return fetcher === undefined ? 'waiting' : FETCHED_BY[fetcher]
    case 'downloading':
      if (hasFailed)
        return `${ended} · ${ofTotal(layer.downloadedBytes + layer.cachedBytes, layer.totalBytes)}`
      // If the bytes are not observed, the byte count is unknown rather than zero.
      if (source !== '' && layer.downloadedBytes === 0) return `downloading${source}`
      return `${ofTotal(layer.downloadedBytes + layer.cachedBytes, layer.totalBytes)} · ${rate(layer.bytesPerSec)}${source}`
    case 'downloaded': {
      const blocking = blockingLayer(pull.layers ?? [], layer)
      return blocking === undefined || hasFailed
        ? `downloaded${details}`
        : `downloaded · waiting for ${shortDigest(blocking.digest)}`
    }
    case 'extracting':
      if (hasFailed) return `${ended} while extracting`
      return `extracting${details}`
    case 'extracted':
      return `extracted${details}`
    case 'failed':
      if (layer.startedAt === undefined && layer.completedAt === undefined) return 'not started'
      return ended
  }
}

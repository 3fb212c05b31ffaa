import { classes } from '../classes'
import { axisTime, bytes, clock, ofTotal, rate, shortDigest } from '../model/format'
import { blockingLayer, type Lane, layerRate, type Phase, waterfall } from '../model/waterfall'
import { useNow } from '../store/useStore'
import type { Layer, Pull } from '../wire/wire'
import styles from './Waterfall.module.css'

const LEGEND: readonly (readonly [Phase, string])[] = [
  ['cached', 'already on the node'],
  ['remote', 'served on demand'],
  ['waiting', 'waiting'],
  ['downloading', 'downloading'],
  ['extracting', 'extracting'],
  ['failed', 'failed'],
]

export function Waterfall({ pull }: { readonly pull: Pull }) {
  const now = useNow()
  const layers = pull.layers ?? []
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
          <LaneRow key={lane.layer.digest} lane={lane} layers={layers} hasFailed={pull.status === 'failed'} />
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
  readonly layers: readonly Layer[]
  readonly hasFailed: boolean
}

function LaneRow({ lane: { layer, segments }, layers, hasFailed }: LaneProps) {
  const words = describe(layer, layers, hasFailed)
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
            className={classes(
              styles.segment,
              styles[phase],
              layer.fetchedBy !== undefined && phase === 'downloading' && styles.borrowed,
            )}
            style={{ left: `${from * 100}%`, width: `${(to - from) * 100}%` }}
          />
        ))}
      </span>
      <span className={styles.words}>{words}</span>
    </li>
  )
}

/** The snapshotter downloads some layers itself; their bytes are not observed. */
const BY_SNAPSHOTTER = 'snapshotter'

function source({ fetchedBy }: Layer): string {
  if (fetchedBy === undefined) return ''
  return fetchedBy === BY_SNAPSHOTTER ? ' · fetched by the snapshotter' : ' · downloaded by another pull'
}

/** Describes the lane in words; screen readers announce this text instead of the lane. */
function describe(layer: Layer, layers: readonly Layer[], hasFailed: boolean): string {
  const speed = layerRate(layer)
  const details = `${speed === undefined ? '' : ` · ${rate(speed)}`}${source(layer)}`
  switch (layer.state) {
    case 'cached':
      return 'already on the node'
    case 'remote':
      return 'served by the snapshotter on demand'
    case 'waiting':
      return waitingWords(layer, hasFailed)
    case 'downloading':
      return `${ofTotal(layer.downloadedBytes + layer.cachedBytes, layer.totalBytes)} · ${rate(layer.bytesPerSec)}${source(layer)}`
    case 'downloaded': {
      const blocking = blockingLayer(layers, layer)
      return blocking === undefined || hasFailed
        ? `downloaded${details}`
        : `downloaded · waiting for ${shortDigest(blocking.digest)}`
    }
    case 'extracting':
      return `extracting${details}`
    case 'extracted':
      return `extracted${details}`
    case 'failed':
      return layer.startedAt === undefined && layer.completedAt === undefined ? 'not started' : 'failed'
  }
}

function waitingWords({ fetchedBy }: Layer, hasFailed: boolean): string {
  if (hasFailed) return 'not started'
  if (fetchedBy === undefined) return 'waiting'
  return fetchedBy === BY_SNAPSHOTTER ? 'fetched by the snapshotter' : 'downloaded by another pull'
}

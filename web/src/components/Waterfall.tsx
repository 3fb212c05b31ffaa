import { bottleneck } from '../bottleneck'
import { classes } from '../classes'
import { axisTime, bytes, ofTotal, rate, shortDigest } from '../format'
import { useNow } from '../store/useStore'
import { blockingLayer, type Lane, layerRate, type Phase, waterfall } from '../waterfall'
import type { Layer, Pull } from '../wire'
import styles from './Waterfall.module.css'

const LEGEND: readonly (readonly [Phase, string])[] = [
  ['cached', 'already on the node'],
  ['waiting', 'waiting'],
  ['downloading', 'downloading'],
  ['extracting', 'extracting'],
  ['failed', 'failed'],
]

export function Waterfall({ pull }: { readonly pull: Pull }) {
  const now = useNow()
  const layers = pull.layers ?? []
  const { lanes, ticks, now: present, readySeconds } = waterfall(pull, now)
  const shown = new Set(lanes.flatMap(({ segments }) => segments.map(({ phase }) => phase)))
  const line = bottleneck(pull, now)
  return (
    <figure className={styles.waterfall} aria-label="Layers in the order of the manifest">
      <div className={styles.axis} aria-hidden="true">
        <div className={styles.scale}>
          {ticks.map(({ at, seconds }) => (
            <span key={seconds} className={styles.tick} style={{ left: `${at * 100}%` }}>
              {axisTime(seconds)}
            </span>
          ))}
          {readySeconds !== undefined && (
            <span className={styles.ready}>ready ≈ {axisTime(readySeconds)}</span>
          )}
        </div>
      </div>
      <ol className={styles.lanes}>
        {lanes.map(lane => (
          <LaneRow key={lane.layer.digest} lane={lane} layers={layers} />
        ))}
        {present !== undefined && (
          <li aria-hidden="true" className={styles.overlay}>
            <span className={styles.now} style={{ left: `${present * 100}%` }} />
          </li>
        )}
      </ol>
      <figcaption className={styles.caption}>
        <span className={styles.legend} aria-hidden="true">
          {LEGEND.filter(([phase]) => shown.has(phase)).map(([phase, word]) => (
            <span key={phase} className={styles.key}>
              <i className={classes(styles.swatch, styles[phase])} /> {word}
            </span>
          ))}
        </span>
        {line !== undefined && <strong className={styles.bottleneck}>{line}</strong>}
      </figcaption>
    </figure>
  )
}

function LaneRow({ lane, layers }: { readonly lane: Lane; readonly layers: readonly Layer[] }) {
  const { layer, segments } = lane
  const words = describe(layer, layers)
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

/** The lane in words: for screen readers it is the lane. */
function describe(layer: Layer, layers: readonly Layer[]): string {
  const speed = layerRate(layer)
  const at = speed === undefined ? '' : ` · ${rate(speed)}`
  const other = layer.fetchedBy === undefined ? '' : ' · fetched by another pull'
  switch (layer.state) {
    case 'cached':
      return 'already on the node'
    case 'waiting':
      return layer.fetchedBy === undefined ? 'waiting' : 'another pull is fetching it'
    case 'downloading':
      return `${ofTotal(layer.downloadedBytes + layer.cachedBytes, layer.totalBytes)} · ${rate(layer.bytesPerSec)}${other}`
    case 'downloaded': {
      const blocking = blockingLayer(layers, layer)
      return blocking === undefined
        ? `downloaded${at}${other}`
        : `downloaded · waits for ${shortDigest(blocking.digest)}`
    }
    case 'extracting':
      return `extracting${at}${other}`
    case 'extracted':
      return `extracted${at}${other}`
    case 'failed':
      return 'failed'
  }
}

import { classes } from '../classes'
import { duration, quantity, rate } from '../model/format'
import {
  areas,
  bandColour,
  CHART_HEIGHT,
  CHART_WIDTH,
  highest,
  OTHERS,
  type Series,
  scaleMark,
  series,
  total,
  WINDOW_MS,
} from '../model/throughput'
import { isConnected } from '../store/connection'
import { useSamples, useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import styles from './Band.module.css'
import { Tiles } from './Tiles'

/** A narrow band that shows the total throughput, its last minutes by registry, and the counts. */
export function Band() {
  return (
    <div className={classes(shared.panel, styles.band)}>
      <Throughput />
      <Tiles />
    </div>
  )
}

function Throughput() {
  const samples = useSamples()
  const { connection } = useSnapshot()
  const lines = series(samples)
  const last = samples.at(-1)
  const { value, unit } = quantity(total(last?.rates))
  const [whole = '0', fraction] = value.split('.')
  const seconds = samples[0] === undefined || last === undefined ? 0 : (last.at - samples[0].at) / 1000
  const isKnown = last?.rates !== undefined && isConnected(connection)
  const now = (line: Series) => (isKnown ? rate(line.now) : '–')
  const active = lines.filter(line => line.now > 0)
  const top = highest(lines)
  const mark = scaleMark(top)
  const summary = isKnown
    ? active.map(line => `${line.registry} ${now(line)}`).join(', ') || 'nothing is being downloaded'
    : 'not known'
  return (
    <section className={styles.throughput} aria-label="Total throughput">
      <h2 className={classes(shared.heading, styles.title)}>Throughput</h2>
      <p className={styles.total}>
        <b className={styles.whole}>{isKnown ? whole : '–'}</b>
        {isKnown && (
          <span className={styles.unit}>
            {fraction !== undefined && `.${fraction}`} {unit}/s
          </span>
        )}
      </p>
      <div className={styles.chart} role="img" aria-label={`Throughput by registry: ${summary}`}>
        <svg viewBox={`0 0 ${CHART_WIDTH} ${CHART_HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
          {areas(samples, lines).map((path, at) => {
            const registry = lines[at]?.registry ?? OTHERS
            return (
              <path
                key={registry}
                d={path}
                fill={bandColour(registry)}
                stroke={bandColour(registry)}
                className={styles.area}
              />
            )
          })}
        </svg>
        {lines.length > 0 && (
          <span className={styles.scale} style={{ top: `${100 * (1 - mark / top)}%` }}>
            {rate(mark)} · last {duration(Math.min(seconds, WINDOW_MS / 1000))}
          </span>
        )}
      </div>
      <ul className={styles.legend}>
        {[...active, ...lines.filter(line => line.now <= 0)].map(line => (
          <li key={line.registry} className={styles.key}>
            <i className={styles.swatch} style={{ background: bandColour(line.registry) }} />
            <bdi className={styles.registry}>{line.registry}</bdi> {line.now > 0 && <b>{now(line)}</b>}
          </li>
        ))}
      </ul>
    </section>
  )
}

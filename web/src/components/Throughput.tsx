import { lazy, Suspense } from 'react'
import { classes } from '../classes'
import { duration, quantity, rate } from '../format'
import { useSamples } from '../store/useStore'
import { type Series, series, total, WINDOW_MS } from '../throughput'
import styles from './Throughput.module.css'

// The chart's library is a fifth of the page; the numbers need not wait for it.
const Chart = lazy(() => import('./ThroughputChart'))

/** The hues of the bands, the busiest registry first. */
const HUES = [styles.first, styles.second, styles.third, styles.fourth, styles.fifth]

export function Throughput() {
  const samples = useSamples()
  const lines = series(samples)
  const last = samples.at(-1)
  const { value, unit } = quantity(total(last?.rates))
  const [whole = '0', fraction] = value.split('.')
  const seconds = samples[0] === undefined || last === undefined ? 0 : (last.at - samples[0].at) / 1000
  const isKnown = last?.rates !== undefined
  const now = (line: Series) => (isKnown ? rate(line.now) : '–')
  const summary = isKnown
    ? lines.map(line => `${line.registry} ${now(line)}`).join(', ') || 'nothing is being downloaded'
    : 'not known'
  return (
    <section className={styles.panel} aria-label="Total throughput">
      <h2 className={styles.title}>Total throughput</h2>
      <p className={styles.total}>
        <b className={styles.whole}>{isKnown ? whole : '–'}</b>
        <span className={styles.unit}>
          {fraction !== undefined && `.${fraction}`} {unit}/s
        </span>
      </p>
      <div className={styles.chart} role="img" aria-label={`Throughput by registry: ${summary}`}>
        <Suspense>
          <Chart samples={samples} lines={lines} />
        </Suspense>
      </div>
      <span className={styles.span}>
        {seconds < WINDOW_MS / 1000 - 5 ? `last ${duration(seconds)}` : 'last 5 min'}
      </span>
      <ul className={styles.legend}>
        {lines.map((line, at) => (
          <li key={line.registry} className={styles.key}>
            <i className={classes(styles.swatch, HUES[at])} data-hue={at} />
            <bdi className={styles.registry}>{line.registry}</bdi> <b>{now(line)}</b>
          </li>
        ))}
      </ul>
    </section>
  )
}

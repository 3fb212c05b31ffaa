import { Fragment, useLayoutEffect, useMemo, useRef, useState } from 'react'
import { classes } from '../classes'
import { bytes, joined, quantity, rate, secondOfDay, timeOfDay } from '../model/format'
import { UNKNOWN_REGISTRY } from '../model/images'
import { placeOf } from '../model/moment'
import { searchPulls } from '../model/pullRows'
import { linkTime } from '../model/query'
import {
  areas,
  axis,
  bandColour,
  CHART_HEIGHT,
  CHART_WIDTH,
  downloadedBy,
  happened,
  highest,
  type Mark,
  marks,
  marksNear,
  OTHERS,
  PLACES,
  periodWords,
  reading,
  type Sample,
  type Series,
  scaleMark,
  series,
  total,
  wordsOf,
} from '../model/throughput'
import { isConnected } from '../store/connection'
import { useNow, useSamples, useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import { showPulls, showRegistries } from '../url/useUrl'
import styles from './Band.module.css'
import { useMoment } from './Moment'
import { Tiles } from './Tiles'

/** A narrow band that shows the total throughput, the throughput by registry over the last few minutes, and the
 * counts. */
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
  const { connection, counts, pulls } = useSnapshot()
  // The samples change only once a second, but this component is rendered on every frame.
  const lines = useMemo(() => series(samples), [samples])
  const events = useMemo(() => marks(pulls.values(), axis(samples)), [samples, pulls])
  const last = samples.at(-1)
  const { value, unit } = quantity(total(last?.rates))
  const [whole = '0', fraction] = value.split('.')
  const isKnown = counts !== undefined && last?.rates !== undefined && isConnected(connection)
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
      <Legend lines={lines} isKnown={isKnown} />
      <Chart samples={samples} lines={lines} events={events} />
      <Axis samples={samples} />
    </section>
  )
}

/** The registries that fit on one line, starting with those that delivered the most bytes, and the number of registries
 * that do not fit. If the server does not count bytes, the active registries come first. */
function Legend({ lines, isKnown }: { readonly lines: readonly Series[]; readonly isKnown: boolean }) {
  const list = useRef<HTMLUListElement>(null)
  const { history } = useSnapshot()
  const now = useNow()
  const downloaded = useMemo(() => downloadedBy(lines, history), [lines, history])
  const bytesOf = ({ registry }: Series) => downloaded.get(registry) ?? 0
  const order = [...lines].sort((a, b) => bytesOf(b) - bytesOf(a) || Number(b.now > 0) - Number(a.now > 0))
  const figuresOf = (line: Series) => {
    const sum = bytesOf(line)
    const speed = line.now > 0 && (isKnown ? rate(line.now) : '–')
    return joined(', ', sum > 0 && bytes(sum), speed && (sum > 0 ? `now ${speed}` : speed))
  }
  const [hidden, setHidden] = useState(0)
  useLayoutEffect(() => {
    const entries = [...(list.current?.children ?? [])] as HTMLElement[]
    setHidden(entries.filter(({ offsetTop }) => offsetTop > (entries[0]?.offsetTop ?? 0)).length)
  }, [lines, isKnown, downloaded])
  return (
    <div className={styles.legend}>
      {history && downloaded.size > 0 && <span>{periodWords(history.since, now)}:</span>}
      <ul ref={list} className={styles.keys}>
        {order.map(line => (
          <li key={line.registry} className={styles.key}>
            <Swatch registry={line.registry} /> <b>{figuresOf(line)}</b>
          </li>
        ))}
      </ul>
      <button
        type="button"
        className={styles.more}
        onClick={showRegistries}
        title={order
          .slice(order.length - hidden)
          .map(line => joined(' ', line.registry, figuresOf(line)))
          .join('; ')}
      >
        {hidden > 0 && `and ${hidden} more`}
      </button>
    </div>
  )
}

function Swatch({ registry }: { readonly registry: string }) {
  return (
    <>
      <i className={styles.swatch} style={{ background: bandColour(registry) }} />
      <bdi className={styles.registry}>{registry === UNKNOWN_REGISTRY ? 'unknown registry' : registry}</bdi>
    </>
  )
}

/** The chart, with the values at the position selected with the pointer or the arrow keys. */
function Chart({
  samples,
  lines,
  events,
}: {
  readonly samples: readonly Sample[]
  readonly lines: readonly Series[]
  readonly events: readonly Mark[]
}) {
  const [place, setPlace] = useState<number>()
  const listedAt = useMoment()
  const chosen = listedAt && placeOf(listedAt, samples)
  const top = highest(lines)
  const mark = scaleMark(top)
  const moment = reading(samples, (place ?? PLACES) / PLACES)
  const rates = moment?.rates
  const figures = rates?.map(([registry, speed]) => `${registry} ${rate(speed)}`).join(', ')
  const sum = rates === undefined ? 'not known' : rate(total(new Map(rates)))
  const at = `${(100 * (place ?? 0)) / PLACES}%`
  const near = marksNear(events, place ?? PLACES)
  const ended = wordsOf(near)
  const time = moment === undefined ? '' : secondOfDay(moment.at)
  // If there is a mark close to the position, the list is for the time of that mark.
  const list = () => moment && showPulls(`at:${linkTime(near[0]?.at ?? moment.at)}`)
  return (
    <div className={styles.chart}>
      <div role="img" aria-label={`Throughput by registry: ${figures || sum}`}>
        <svg viewBox={`0 0 ${CHART_WIDTH} ${CHART_HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
          {areas(samples, lines).map((path, band) => {
            const registry = lines[band]?.registry ?? OTHERS
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
            {rate(mark)}
          </span>
        )}
      </div>
      <input
        type="range"
        className={styles.pointer}
        aria-label="Moment in the chart"
        aria-valuetext={joined('. ', `${time}: ${sum}`, figures, ...ended)}
        max={PLACES}
        value={place ?? PLACES}
        onChange={event => setPlace(Number(event.target.value))}
        onPointerMove={({ currentTarget, clientX }) => {
          const { left, width } = currentTarget.getBoundingClientRect()
          setPlace(Math.min(PLACES, Math.max(0, Math.round((PLACES * (clientX - left)) / width))))
        }}
        onPointerLeave={() => setPlace(undefined)}
        onClick={() => {
          // The values would cover the line about the chosen moment.
          setPlace(undefined)
          list()
        }}
        onKeyDown={({ key }) => key === 'Enter' && list()}
        onFocus={() => setPlace(place ?? PLACES)}
        onBlur={() => setPlace(undefined)}
      />
      {events.map(({ place: at, look }) => (
        <i
          key={at}
          className={classes(styles.mark, shared[look])}
          style={{ left: `${(100 * at) / PLACES}%` }}
        />
      ))}
      {chosen !== undefined && <i className={styles.chosen} style={{ left: `${100 * chosen}%` }} />}
      {place !== undefined && <i className={styles.line} style={{ left: at }} />}
      {place !== undefined && moment !== undefined && (
        <div
          className={styles.reading}
          style={{ left: at, transform: `translateX(-${at})` }}
          aria-hidden="true"
        >
          <p>
            <time>{time}</time> <b>{sum}</b>
          </p>
          {rates?.map(([registry, speed]) => (
            <p key={registry}>
              <Swatch registry={registry} /> <b>{rate(speed)}</b>
            </p>
          ))}
          {ended.map(words => (
            <p key={words}>{words}</p>
          ))}
        </div>
      )}
    </div>
  )
}

/** The period that the chart covers, and what happened during it. */
function Axis({ samples }: { readonly samples: readonly Sample[] }) {
  const { history, pulls, context } = useSnapshot()
  const now = useNow()
  // Counting the pulls is too slow to do on every frame.
  const period = useMemo(
    () => happened(history, now, query => searchPulls(pulls.values(), query, context).length),
    [history, now],
  )
  return (
    <>
      <span className={styles.start}>{samples.length > 0 && timeOfDay(axis(samples)[0])}</span>
      <p className={styles.happened}>
        {period && `${period.words}: `}
        {period?.happenings.map(({ words, query }, at) => (
          <Fragment key={at}>
            {at > 0 && ', '}
            {query === undefined ? (
              words
            ) : (
              <a className={shared.link} href={`?q=${query}`}>
                {words}
              </a>
            )}
          </Fragment>
        ))}
      </p>
      <span className={styles.end}>now</span>
    </>
  )
}

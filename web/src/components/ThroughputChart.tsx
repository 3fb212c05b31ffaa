import { useEffect, useRef } from 'react'
import uPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'
import { type Sample, type Series, stack } from '../throughput'
import { useTheme } from './ThemeButton'
import styles from './ThroughputChart.module.css'

interface Props {
  readonly samples: readonly Sample[]
  readonly lines: readonly Series[]
}

/** A page just opened has little to show; five minutes of axis would make it a sliver. */
const SHORTEST_MS = 60_000

/** Bands stacked by registry, drawn once a second; decoration for the figures beside it. */
export default function ThroughputChart({ samples, lines }: Props) {
  const box = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot>(undefined)
  const theme = useTheme()
  const names = lines.map(({ registry }) => registry).join(' ')

  // Other bands or colours need another plot; new figures do not.
  useEffect(() => {
    const parent = box.current
    if (parent === null) return
    const made = new uPlot(options(parent, lines.length), empty(lines.length), parent)
    plot.current = made
    const watcher = new ResizeObserver(() => made.setSize(sizeOf(parent)))
    watcher.observe(parent)
    return () => {
      watcher.disconnect()
      made.destroy()
      plot.current = undefined
    }
  }, [names, theme])

  // A new plot wants the figures too.
  useEffect(() => {
    const end = samples.at(-1)?.at
    const start = samples[0]?.at
    if (plot.current === undefined || end === undefined || start === undefined) return
    const times = samples.map(({ at }) => at / 1000)
    // A band is told as [upper series, lower series].
    const heights = stack(lines)
      .map(values => [...values])
      .reverse()
    plot.current.setData([times, ...heights], false)
    plot.current.setScale('x', { min: Math.min(start, end - SHORTEST_MS) / 1000, max: end / 1000 })
    plot.current.setScale('y', { min: 0, max: Math.max(1e6, ...highest(heights)) * 1.15 })
  }, [samples, names, theme])

  return <div ref={box} className={styles.chart} aria-hidden="true" />
}

function highest(heights: readonly (readonly (number | null)[])[]): readonly number[] {
  return (heights[0] ?? []).map(value => value ?? 0)
}

function sizeOf(parent: HTMLElement): { width: number; height: number } {
  return { width: parent.clientWidth, height: parent.clientHeight }
}

function empty(count: number): uPlot.AlignedData {
  return [[], ...Array.from({ length: count }, () => [])]
}

function options(parent: HTMLElement, count: number): uPlot.Options {
  const hues = Array.from({ length: count }, (_, at) => hue(parent, at)).reverse()
  return {
    ...sizeOf(parent),
    padding: [4, 0, 0, 0],
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: true, auto: false }, y: { auto: false } },
    axes: [{ show: false }, { show: false }],
    // Each fill ends at the line below, or translucent bands would darken one another.
    bands: hues.slice(1).map((_, at) => ({ series: [at + 1, at + 2] as [number, number] })),
    series: [
      {},
      ...hues.map(stroke => ({
        stroke,
        fill: translucent(stroke),
        width: 1.5,
        points: { show: false },
        spanGaps: false,
      })),
    ],
  }
}

/** A canvas cannot read tokens; the legend's swatch has the colour already worked out. */
function hue(parent: HTMLElement, at: number): string {
  const swatch = parent.closest('section')?.querySelector(`[data-hue="${at}"]`)
  return swatch === null || swatch === undefined ? 'gray' : getComputedStyle(swatch).color
}

function translucent(colour: string): string {
  return colour.replace(/^rgb\((.+)\)$/, 'rgba($1, 0.16)')
}

import { expect, it } from 'vitest'
import { aPull, T0 } from '../testing'
import {
  averageRate,
  knownPercent,
  progressFigure,
  pullState,
  remainingSeconds,
  stopped,
  unpackedShare,
} from './pullState'

it.each([
  [{ status: 'failed', errorReason: 'canceled' }, 'cancelled'],
  [{ status: 'failed', errorReason: 'tls' }, 'failed'],
  [{ stalledSince: T0 }, 'stalled'],
  [{ status: 'completed' }, 'done'],
  [{ status: 'unobserved' }, 'unobserved'],
] as const)('names the state of %j', (change, state) => {
  expect(pullState(aPull(change))).toBe(state)
})

it('shows how far a cancelled pull got', () => {
  expect(stopped(aPull({ percent: 38 }))).toBe('stopped at 38 %')
  expect(stopped(aPull())).toBe('stopped before any bytes were observed')
})

it('a finished pull has no estimate of the remaining time', () => {
  expect(remainingSeconds(aPull({ status: 'completed', etaSeconds: 5 }), T0)).toBeUndefined()
})

it('bases the percentage on layers if the bytes are not observed', () => {
  const pull = aPull({ totalKnown: false, percent: 40 })
  expect(knownPercent(pull)).toBeUndefined()
  expect(knownPercent({ ...pull, percentBasis: 'layers' })).toBe(40)
})

it('shows the progress in percent, or in layers if the bytes are not observed', () => {
  const pull = aPull({ percent: 40, layerCount: 4, layersDone: 2 })
  expect(progressFigure(pull)).toBe('40 %')
  expect(progressFigure({ ...pull, percentBasis: 'layers' })).toBe('2/4')
  expect(progressFigure({ ...pull, percentBasis: 'layers', percent: 100, status: 'completed' })).toBe('100 %')
  expect(progressFigure({ ...pull, totalKnown: false })).toBe('')
})

it('a pull has an average rate and an unpacked share only if it has bytes', () => {
  expect(averageRate(aPull({ completedAt: T0 + 10_000, downloadedBytes: 50 }))).toBe(5)
  expect(averageRate(aPull({ completedAt: T0 + 10_000 }))).toBeUndefined()
  const unpacked = { downloadedAt: T0 + 5000, completedAt: T0 + 10_000, downloadedBytes: 50 }
  expect(averageRate(aPull(unpacked))).toBe(10)
  expect(unpackedShare(aPull({ extractedBytes: 25e6 }))).toBe(0.25)
  expect(unpackedShare(aPull({ totalBytes: 0 }))).toBeUndefined()
})

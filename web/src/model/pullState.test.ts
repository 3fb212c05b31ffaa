import { expect, it } from 'vitest'
import { aPull, T0 } from '../testing'
import {
  averageRate,
  knownPercent,
  pullState,
  remainingSeconds,
  slowFactor,
  stopped,
  unpackedShare,
  unusualSeconds,
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

it('states how much of a cancelled pull was downloaded', () => {
  expect(stopped(aPull({ percent: 38 }))).toBe('stopped at 38 %')
  expect(stopped(aPull())).toBe('stopped before it began')
})

it('a pull that has ended has no time left', () => {
  expect(remainingSeconds(aPull({ status: 'completed', etaSeconds: 5 }), T0)).toBeUndefined()
})

it('counts layers for the percentage when bytes are not observed', () => {
  const pull = aPull({ totalKnown: false, percent: 40 })
  expect(knownPercent(pull)).toBeUndefined()
  expect(knownPercent({ ...pull, percentBasis: 'layers' })).toBe(40)
})

it.each([
  ['much longer', { etaSeconds: 100 }, 30],
  ['about as long', { etaSeconds: 5 }, undefined],
  ['longer, but only by seconds', { etaSeconds: 8, usualSeconds: 20 }, undefined],
  ['without an estimate', {}, undefined],
  ['slow, as the server says', { slowerThanUsual: 1.6 }, 30],
] as const)('shows the usual duration of a pull that is %s', (_, change, usual) => {
  expect(unusualSeconds(aPull({ usualSeconds: 30, ...change }), T0 + 20_000)).toBe(usual)
})

it.each([
  ['as the server says', { slowerThanUsual: 1.6 }, 1.6],
  ['as its expected duration shows', { etaSeconds: 100 }, 4],
  ['not, because only seconds are lost', { etaSeconds: 8, usualSeconds: 20 }, undefined],
  ['not, because it is too young for an estimate', { etaSeconds: 100, startedAt: T0 + 15_000 }, undefined],
  ['not, because it has ended', { etaSeconds: 100, status: 'completed' }, undefined],
] as const)('is slower than usual, %s', (_, change, factor) => {
  expect(slowFactor(aPull({ usualSeconds: 30, ...change }), T0 + 20_000)).toBe(factor)
})

it('a pull has an average rate and an unpacked share only with bytes', () => {
  expect(averageRate(aPull({ completedAt: T0 + 10_000, downloadedBytes: 50 }))).toBe(5)
  expect(averageRate(aPull({ completedAt: T0 + 10_000 }))).toBeUndefined()
  expect(unpackedShare(aPull({ extractedBytes: 25e6 }))).toBe(0.25)
  expect(unpackedShare(aPull({ totalBytes: 0 }))).toBeUndefined()
})

import { expect, it } from 'vitest'
import {
  axisTime,
  boundWords,
  bytes,
  clock,
  duration,
  ofTotal,
  percent,
  rate,
  shortDigest,
  splitName,
  times,
} from './format'

it.each([
  [0, '0 B'],
  [999, '999 B'],
  [4200, '4.2 kB'],
  [999_499, '999 kB'],
  [999_600, '1.0 MB'],
  [29_100_000, '29.1 MB'],
  [187_000_000, '187 MB'],
  [2_600_000_000, '2.6 GB'],
  [-5, '0 B'],
])('formats %d bytes as %s', (count, words) => {
  expect(bytes(count)).toBe(words)
})

it('formats both numbers in the unit of the total', () => {
  expect(ofTotal(3.0e9, 5.3e9)).toBe('3.0 / 5.3 GB')
  expect(ofTotal(31.4e6, 134e6)).toBe('31 / 134 MB')
  expect(ofTotal(400e6, 1.2e9)).toBe('0.4 / 1.2 GB')
})

it('does not show a small share as 0', () => {
  expect(ofTotal(4200, 5.3e9)).toBe('4.2 kB / 5.3 GB')
  expect(ofTotal(0, 5.3e9)).toBe('0.0 / 5.3 GB')
})

it('never shows 100 % before the pull is complete', () => {
  expect(percent(99.97)).toBe('99 %')
  expect(percent(100)).toBe('100 %')
  expect(percent(140)).toBe('100 %')
})

it('formats durations like a clock', () => {
  expect(clock(6.4)).toBe('6 s')
  expect(clock(74)).toBe('1:14')
  expect(axisTime(0)).toBe('0:00')
  expect(axisTime(3729)).toBe('1:02:09')
})

it('formats durations in words', () => {
  expect(duration(48)).toBe('48 s')
  expect(duration(185)).toBe('3 min')
  expect(duration(7500)).toBe('2 h 5 min')
  expect(duration(200_000)).toBe('2 d')
})

it('shortens digests and rates', () => {
  expect(shortDigest('sha256:5c0f3e1d77abcdef')).toBe('5c0f3e1d77ab')
  expect(rate(41_200_000)).toBe('41.2 MB/s')
  expect([times(2.94), times(12.3)]).toEqual(['2.9×', '12×'])
})

it.each([
  ['cart-7d9c5bd8f4-k2x9p', '-k2x9p'],
  ['recommendations-0', '-0'],
  ['worker-10', 'worker-10'],
  ['ip-10-0-12-34.eu-central-1.compute.internal', 'ute.internal'],
  ['api', 'api'],
  ['', ''],
])('keeps the distinguishing end of %j', (name, end) => {
  expect(splitName(name)).toEqual([name.slice(0, name.length - end.length), end])
})

it('shows a lower bound only if it says something', () => {
  expect([0, 3, 29, 30, 74].map(boundWords)).toEqual([undefined, undefined, undefined, '> 30 s', '> 1:14'])
})

import { expect, it } from 'vitest'
import { type Announced, announcement, favicon, title } from './announcements'

const counts = { queued: 0, downloading: 0, extracting: 0, failed: 0, done: 0, stalled: 0 }
const announced = (
  change: Partial<typeof counts> = {},
  connection: Announced['connection'] = 'live',
): Announced => ({
  counts: { ...counts, ...change },
  connection,
})

it('the announcement lists the changes, and is empty if there are none', () => {
  expect(announcement(announced(), announced({ failed: 1, done: 3 }))).toBe('1 pull failed. 3 pulls done.')
  expect(announcement(announced({ done: 3 }), announced({ done: 1, downloading: 4 }))).toBe('')
})

it('does not announce earlier events when the page opens', () => {
  expect(announcement(announced({}, 'connecting'), announced({ failed: 9, done: 40 }))).toBe('Connected.')
})

it('announces when the connection is lost and when it is back', () => {
  expect(announcement(announced(), announced({}, 'lost'))).toBe('The connection is lost.')
  expect(announcement(announced({}, 'connecting'), announced({ done: 2 }, 'polling'))).toMatch(
    /^The live stream is not arriving[^.]*\.$/,
  )
  expect(announcement(announced({}, 'lost'), announced({ done: 2 }))).toBe('Connected again. 2 pulls done.')
})

it('the title shows how many pulls have failed and how many are active', () => {
  expect(title({ ...counts, failed: 2, queued: 1, downloading: 4 }, 'live')).toBe(
    '2 failed, 5 active · Pulltrace',
  )
  expect(title(counts, 'live')).toBe('Pulltrace')
  expect(title(counts, 'lost')).toBe('offline · Pulltrace')
})

it('the icon shows the worst state', () => {
  expect(favicon({ ...counts, downloading: 1 }, 'live')).toBe('busy')
  expect(favicon({ ...counts, downloading: 1, failed: 1 }, 'live')).toBe('failed')
  expect(favicon({ ...counts, failed: 1 }, 'lost')).toBe('offline')
  expect(favicon(counts, 'live')).toBe('idle')
})

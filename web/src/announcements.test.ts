import { expect, it } from 'vitest'
import { announcement, favicon, type Heard, title } from './announcements'

const counts = { queued: 0, downloading: 0, extracting: 0, failed: 0, done: 0, stalled: 0 }
const heard = (change: Partial<typeof counts> = {}, connection: Heard['connection'] = 'live'): Heard => ({
  counts: { ...counts, ...change },
  connection,
})

it('says what came since, and nothing when nothing did', () => {
  expect(announcement(heard(), heard({ failed: 1, done: 3 }))).toBe('1 pull failed. 3 pulls done.')
  expect(announcement(heard({ done: 3 }), heard({ done: 1, downloading: 4 }))).toBe('')
})

it('does not read out the past when the page opens', () => {
  expect(announcement(heard({}, 'connecting'), heard({ failed: 9, done: 40 }))).toBe('Connected.')
})

it('says when the connection goes and comes', () => {
  expect(announcement(heard(), heard({}, 'lost'))).toBe('The connection is lost.')
  expect(announcement(heard({}, 'connecting'), heard({ done: 2 }, 'polling'))).toMatch(
    /^The live stream does not arrive[^.]*\.$/,
  )
  expect(announcement(heard({}, 'lost'), heard({ done: 2 }))).toBe('Connected again. 2 pulls done.')
})

it('puts failures and active pulls into the title', () => {
  expect(title({ ...counts, failed: 2, queued: 1, downloading: 4 }, 'live')).toBe(
    '2 failed, 5 active · Pulltrace',
  )
  expect(title(counts, 'live')).toBe('Pulltrace')
  expect(title(counts, 'lost')).toBe('offline · Pulltrace')
})

it('shows the worst in the icon', () => {
  expect(favicon({ ...counts, downloading: 1 }, 'live')).toBe('busy')
  expect(favicon({ ...counts, downloading: 1, failed: 1 }, 'live')).toBe('failed')
  expect(favicon({ ...counts, failed: 1 }, 'lost')).toBe('offline')
  expect(favicon(counts, 'live')).toBe('idle')
})

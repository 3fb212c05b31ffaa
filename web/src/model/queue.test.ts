import { expect, it } from 'vitest'
import { aPull, T0 } from '../testing'
import { earliestStart, livePulls, ordinal, queuePlace } from './queue'

const active = aPull({ id: 'active', etaSeconds: 70, startedAt: T0 })
const first = aPull({ id: 'first', status: 'queued', startedAt: T0 + 1000 })
const second = aPull({ id: 'second', status: 'queued', startedAt: T0 + 2000 })
const elsewhere = aPull({ id: 'elsewhere', nodeName: 'other', startedAt: T0 - 5000 })
const ended = aPull({ id: 'ended', status: 'completed', startedAt: T0 - 9000 })
const live = livePulls([second, ended, first, elsewhere, active])

it('has the live pulls of each node, the oldest first', () => {
  expect(live.get('worker-01')?.map(({ id }) => id)).toEqual(['active', 'first', 'second'])
})

it('knows the position and the pulls ahead', () => {
  const place = queuePlace(second, live)
  expect(place?.position).toBe(2)
  expect(place?.ahead.map(({ id }) => id)).toEqual(['active', 'first'])
  expect(queuePlace(first, live)?.position).toBe(1)
  expect(queuePlace(active, live)).toBeUndefined()
})

it('counts an active pull as ahead although the kubelet requested it later', () => {
  const late = aPull({ id: 'late', startedAt: T0 + 9000 })
  expect(queuePlace(first, livePulls([first, late]))?.ahead.map(({ id }) => id)).toEqual(['late'])
})

it('knows when a pull can start at the earliest', () => {
  const place = queuePlace(second, live)
  expect(place && earliestStart(place, T0)).toBe(70)
  expect(earliestStart({ position: 1, ahead: [] }, T0)).toBeUndefined()
})

it('writes ordinals', () => {
  expect([1, 2, 3, 4, 11, 12, 13, 21, 102, 111].map(ordinal)).toEqual([
    '1st',
    '2nd',
    '3rd',
    '4th',
    '11th',
    '12th',
    '13th',
    '21st',
    '102nd',
    '111th',
  ])
})

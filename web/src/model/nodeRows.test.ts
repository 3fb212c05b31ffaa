import { expect, it } from 'vitest'
import { aContext, aPull, T0 } from '../testing'
import type { ClusterNode } from '../wire/wire'
import { medianRate, nodeRows } from './nodeRows'
import { parseQuery } from './query'

const context = aContext([])
const { now } = context

it('rates a node by its completed pulls and its live ones', () => {
  const done = aPull({ status: 'completed', downloadedBytes: 100e6, completedAt: T0 + 10_000 })
  const live = aPull({ id: 'b', downloadedBytes: 60e6 })
  expect(medianRate([live], now)).toBe(1e6)
  expect(medianRate([done, live, { ...done, id: 'c' }], now)).toBe(10e6)
})

it('has no rate without a byte, and none from failed pulls', () => {
  expect(medianRate([aPull()], now)).toBeUndefined()
  expect(
    medianRate([aPull({ status: 'failed', downloadedBytes: 5, completedAt: T0 + 1 })], now),
  ).toBeUndefined()
})

it('counts running and queued pulls separately', () => {
  const pulls = [aPull(), aPull({ id: 'b', status: 'queued' }), aPull({ id: 'c', status: 'completed' })]
  const node = { name: 'worker-01', state: 'reporting' } as ClusterNode
  const [row] = nodeRows([node], pulls, { query: parseQuery(''), sort: undefined }, context)
  expect(row).toMatchObject({ active: 1, queued: 1 })
})

import { expect, it } from 'vitest'
import { pullIds } from './pullRows'
import { parseQuery } from './query'
import { aPull, T0 } from './testing'

const pulls = [
  aPull({ id: 'done', status: 'completed', completedAt: T0 + 9000, bytesPerSec: 0 }),
  aPull({ id: 'old', bytesPerSec: 5 }),
  aPull({ id: 'new', startedAt: T0 + 5000, bytesPerSec: 9, nodeName: 'worker-10' }),
  aPull({ id: 'queued', status: 'queued', nodeName: 'worker-9' }),
  aPull({ id: 'failed', status: 'failed' }),
  aPull({ id: 'stalled', stalledSince: T0 }),
]
const ids = (column?: string, descending = false, query = '') =>
  pullIds(pulls, parseQuery(query), column === undefined ? undefined : { column, descending })

it('has trouble on top and the past at the bottom', () => {
  expect(ids()).toEqual(['failed', 'stalled', 'new', 'old', 'queued', 'done'])
})

it('sorts by a column both ways, and names by their numbers', () => {
  expect(ids('speed', true).slice(0, 2)).toEqual(['new', 'old'])
  expect(ids('node').slice(-2)).toEqual(['queued', 'new'])
  expect(ids('node', true).slice(0, 2)).toEqual(['new', 'queued'])
})

it('has what has no figure at the bottom, whichever way it sorts', () => {
  const timed = [aPull(), aPull({ id: 'slow', etaSeconds: 90 }), aPull({ id: 'fast', etaSeconds: 3 })]
  timed.push(aPull({ id: 'failed', status: 'failed', completedAt: T0 + 60_000 }))
  const left = (descending: boolean) => pullIds(timed, parseQuery(''), { column: 'left', descending })
  expect(left(true)).toEqual(['slow', 'fast', 'failed', 'a'])
  expect(left(false)).toEqual(['fast', 'slow', 'failed', 'a'])
})

it('keeps its own order for a column it does not know', () => {
  expect(ids('colour')).toEqual(ids())
})

it('shows what the search asks for', () => {
  expect(ids(undefined, false, 'status:queued,failed')).toEqual(['failed', 'queued'])
})

import { describe, expect, it } from 'vitest'
import { aLayer, aPull, T0 } from '../testing'
import type { Pull } from '../wire/wire'
import { PullTable } from './pullTable'

const changed = (pull: Pull) => ({ kind: 'changed', timestamp: T0, pull }) as const
const removed = (id: string) => ({ kind: 'removed', timestamp: T0, id }) as const

function tableWith(...pulls: readonly Pull[]): PullTable {
  const table = new PullTable()
  for (const pull of pulls) table.apply(changed(pull))
  table.commit()
  return table
}

describe('the table', () => {
  it('the next commit shows the newest change of each pull', () => {
    const table = new PullTable()
    table.apply(changed(aPull({ percent: 1 })))
    table.apply(changed(aPull({ percent: 2 })))
    expect(table.pulls.size).toBe(0)
    expect(table.commit()).toBe(true)
    expect(table.pulls.get('a')?.percent).toBe(2)
    expect(table.commit()).toBe(false)
  })

  it('removes a pull, even one that arrived in the same frame', () => {
    const table = tableWith(aPull())
    table.apply(changed(aPull({ id: 'b' })))
    table.apply(removed('a'))
    table.apply(removed('b'))
    table.commit()
    expect(table.pulls.size).toBe(0)
  })

  it('drops every pull that is not sent again after a reset', () => {
    const table = tableWith(aPull(), aPull({ id: 'b' }))
    table.reset()
    table.apply(changed(aPull({ id: 'b', percent: 9 })))
    expect(table.pulls.size).toBe(2)
    table.commit()
    expect([...table.pulls.keys()]).toEqual(['b'])
  })

  it('increments the shape counter when a pull stalls, but not when only its byte count changes', () => {
    const table = tableWith(aPull())
    const before = table.shape
    table.apply(changed(aPull({ percent: 50, downloadedBytes: 5 })))
    table.commit()
    expect(table.shape).toBe(before)
    table.apply(changed(aPull({ stalledSince: T0 })))
    table.commit()
    expect(table.shape).toBeGreaterThan(before)
  })
})

describe('layers', () => {
  const layers = [aLayer()]

  it('layers are kept only for open rows', () => {
    const table = tableWith(aPull({ layers }))
    expect(table.pulls.get('a')?.layers).toBeUndefined()
    table.wantLayers(['a'])
    table.apply(changed(aPull({ layers })))
    table.commit()
    expect(table.pulls.get('a')?.layers).toBe(layers)
    table.wantLayers([])
    expect(table.pulls.get('a')?.layers).toBeUndefined()
  })

  it('layers remain when an event arrives that was sent before the row was opened', () => {
    const table = tableWith(aPull())
    table.wantLayers(['a'])
    table.offerLayers(aPull({ layers }))
    table.commit()
    table.apply(changed(aPull({ percent: 3 })))
    table.commit()
    expect(table.pulls.get('a')).toMatchObject({ percent: 3, layers })
  })

  it('layers are removed when the next attempt begins', () => {
    const table = tableWith(aPull())
    table.wantLayers(['a'])
    table.offerLayers(aPull({ layers }))
    table.commit()
    table.apply(changed(aPull({ attempt: 2, status: 'queued' })))
    table.commit()
    expect(table.pulls.get('a')?.layers).toEqual([])
  })

  it('a list of layers that was requested separately may be empty', () => {
    const table = tableWith(aPull({ status: 'failed' }))
    table.wantLayers(['a'])
    table.offerLayers(aPull({ status: 'failed' }))
    table.commit()
    expect(table.pulls.get('a')?.layers).toEqual([])
  })

  it('separately requested layers never replace newer layers or figures from the stream', () => {
    const table = tableWith(aPull({ percent: 7 }))
    table.wantLayers(['a'])
    table.offerLayers(aPull({ percent: 5, layers }))
    table.commit()
    expect(table.pulls.get('a')).toMatchObject({ percent: 7, layers })
    const newer = [aLayer({ state: 'downloading' })]
    table.apply(changed(aPull({ layers: newer })))
    table.commit()
    table.offerLayers(aPull({ layers }))
    table.commit()
    expect(table.pulls.get('a')?.layers).toBe(newer)
  })
})

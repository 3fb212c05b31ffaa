import { describe, expect, it } from 'vitest'
import { aContext, aPull, T0 } from '../testing'
import type { ClusterNode, LimitName, Pull } from '../wire/wire'
import { currentRate, deletedWords, nodeRows, usualRate } from './nodeRows'
import { parseQuery } from './query'

const context = aContext([])
const { now } = context
const MB = 1e6

it('calculates the usual speed of a node from its completed pulls, or else from its live pulls', () => {
  const done = aPull({ status: 'completed', downloadedBytes: 100e6, completedAt: T0 + 10_000 })
  const live = aPull({ id: 'b', downloadedBytes: 60e6 })
  expect(usualRate([live], now)).toBe(1e6)
  expect(usualRate([done, live, { ...done, id: 'c' }], now)).toBe(10e6)
  // The pulls of small images take longer to start than to download.
  const small = { ...done, downloadedBytes: 2e6, completedAt: T0 + 2000 }
  expect(usualRate([done, small, { ...small, id: 'd' }, { ...small, id: 'e' }], now)).toBe(10e6)
})

it('compares the downloads from a registry with the usual speed on their nodes', () => {
  const done = (nodeName: string, rate: number, seconds = 100) =>
    aPull({
      id: `${nodeName}-done`,
      nodeName,
      status: 'completed',
      downloadedBytes: rate * MB * seconds,
      completedAt: T0 + seconds * 1000,
    })
  const live = (nodeName: string, rate: number, change: object = {}) =>
    aPull({ id: nodeName, nodeName, bytesPerSec: rate * MB, downloadedBytes: 1, ...change })
  const pulls = [done('a', 20), done('edge', 5), done('c', 80), live('a', 16), live('edge', 4)]
  expect(currentRate(pulls, now)).toEqual({ speed: 10 * MB, usual: 12.5 * MB, nodes: ['a', 'edge'] })
  const young = live('c', 1, { startedAt: now - 1000 })
  expect(currentRate([done('edge', 5), live('edge', 4), young], now)).toEqual({
    speed: 4 * MB,
    usual: 5 * MB,
    nodes: ['edge'],
  })
  expect(currentRate([done('edge', 5, 10), live('edge', 4)], now)?.usual).toBeUndefined()
  // A node without an earlier pull is left out, unless there is no other.
  expect(currentRate([done('edge', 5), live('edge', 4), live('new', 40)], now)).toEqual({
    speed: 4 * MB,
    usual: 5 * MB,
    nodes: ['edge'],
  })
  expect(currentRate([done('edge', 5), live('b', 4)], now)).toEqual({
    speed: 4 * MB,
    usual: undefined,
    nodes: ['b'],
  })
  expect(currentRate([done('edge', 5), live('edge', 0)], now)).toBeUndefined()
})

it('a node has no speed if no byte was downloaded or all pulls failed', () => {
  expect(usualRate([aPull()], now)).toBeUndefined()
  expect(
    usualRate([aPull({ status: 'failed', downloadedBytes: 5, completedAt: T0 + 1 })], now),
  ).toBeUndefined()
})

describe('a download that receives no bytes', () => {
  const nodes = ['n1', 'n2'].map(name => ({ name, state: 'reporting' }) as ClusterNode)
  const rowsOf = (...pulls: readonly Pull[]) =>
    nodeRows(nodes, pulls, { query: parseQuery(''), sort: undefined }, context)
  const stalled = aPull({ id: 's', nodeName: 'n1', stalledSince: T0 })

  it('names the node as the cause of a stall if the registry serves other nodes', () => {
    const [row] = rowsOf(stalled, aPull({ id: 'b', nodeName: 'n2', bytesPerSec: 5 }))
    expect(row).toMatchObject({
      bytesPerSec: 0,
      isDownloading: true,
      stalled: 1,
      limit: { word: 'the node' },
    })
  })

  it('names the connection as the cause of a stall if the node receives another image', () => {
    const other = aPull({ id: 'b', nodeName: 'n2', bytesPerSec: 5 })
    const [row] = rowsOf(
      stalled,
      other,
      aPull({ id: 'c', nodeName: 'n1', imageRef: 'ghcr.io/a:1', bytesPerSec: 5 }),
    )
    expect(row).toMatchObject({ stalled: 1, limit: { word: 'one connection' } })
  })

  it('names the registry as the cause of a stall if the registry does not serve any node', () => {
    const [row] = rowsOf(stalled, { ...stalled, id: 'b', nodeName: 'n2' })
    expect(row).toMatchObject({ limit: { word: 'the registry', why: 'docker.io serves none of 2 nodes.' } })
  })

  it('is not explained if there is no other node to compare with', () => {
    const [row, other] = rowsOf(
      stalled,
      aPull({ id: 'b', nodeName: 'n2', imageRef: 'ghcr.io/a:1', bytesPerSec: 5 }),
    )
    expect(row?.limit).toBeUndefined()
    expect(other?.stalled).toBe(0)
  })
})

it('a node shows the factor that limits most of its running pulls', () => {
  const bound = (by: LimitName) => ({ by, why: `${by} is slow.`, figures: {} })
  const pulls = [
    aPull({ id: 'a', bound: bound('network') }),
    aPull({ id: 'b', bound: bound('network') }),
    aPull({ id: 'c', bound: bound('disk') }),
    aPull({ id: 'd', status: 'queued', bound: bound('queue') }),
    aPull({ id: 'e', bound: bound('unknown') }),
  ]
  const node = { name: 'worker-01', state: 'reporting' } as ClusterNode
  const [row] = nodeRows([node], pulls, { query: parseQuery(''), sort: undefined }, context)
  expect(row?.limit).toEqual({ word: 'the node’s network', why: 'network is slow.' })
})

it('a node counts its running and queued pulls separately', () => {
  const pulls = [aPull(), aPull({ id: 'b', status: 'queued' }), aPull({ id: 'c', status: 'completed' })]
  const node = { name: 'worker-01', state: 'reporting' } as ClusterNode
  const [row] = nodeRows([node], pulls, { query: parseQuery(''), sort: undefined }, context)
  expect(row).toMatchObject({ active: 1, queued: 1 })
})

it('blames a pull without pods for the queue behind it', () => {
  const bound = { by: 'queue', why: '', figures: {} } as const
  const pulls = [aPull(), aPull({ id: 'b', status: 'queued', bound })]
  const node = { name: 'worker-01', state: 'reporting' } as ClusterNode
  const [row] = nodeRows([node], pulls, { query: parseQuery(''), sort: undefined }, context)
  expect(row?.limit).toEqual({
    word: 'a pull that no pod waits for',
    why: 'No pod waits for it; 1 pull queues behind it.',
  })
  const network = { by: 'network', why: 'Other nodes are faster.', figures: {} } as const
  const [slow] = nodeRows(
    [node],
    [{ ...aPull(), bound: network }, ...pulls.slice(1)],
    { query: parseQuery(''), sort: undefined },
    context,
  )
  expect(slow?.limit?.word).toBe('the node’s network, a pull that no pod waits for')
})

it('a node counts the queued pulls of deleted pods separately', () => {
  const bound = { by: 'queue', why: '', figures: { deletedPodsAhead: 6 } } as const
  const pulls = [aPull(), aPull({ id: 'b', status: 'queued', bound })]
  const node = { name: 'worker-01', state: 'reporting' } as ClusterNode
  const [row] = nodeRows([node], pulls, { query: parseQuery(''), sort: undefined }, context)
  expect(row).toMatchObject({ active: 1, queued: 1, deleted: 6 })
  expect(deletedWords(6)).toContain('6 more pulls of deleted pods are queued.')
  expect(deletedWords(1)).toContain('1 more pull of a deleted pod is queued.')
})

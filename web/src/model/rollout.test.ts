import { expect, it } from 'vitest'
import { aContext, aPod, aPull, T0 } from '../testing'
import type { Pull } from '../wire/wire'
import { byRollout, imageRows as rowsOf, unfinished } from './rollout'

const imageRows = (pulls: readonly Pull[]) => rowsOf(pulls, aContext(pulls, ['shop/p']))

const done = (node: string, seconds: number) =>
  aPull({
    id: `${node}-${seconds}`,
    nodeName: node,
    status: 'completed',
    completedAt: T0 + seconds * 1000,
    downloadedBytes: 1,
  })

it('counts nodes by the state of their latest pull', () => {
  const [row] = imageRows([
    done('n1', 10),
    aPull({ id: 'again', nodeName: 'n1', startedAt: T0 + 60_000, status: 'queued' }),
    aPull({ id: 'x', nodeName: 'n2', status: 'failed', pods: [aPod('p')] }),
    aPull({ id: 'y', nodeName: 'n3', status: 'extracting', etaSeconds: 5 }),
    done('n4', 10),
    aPull({ id: 'z', nodeName: 'n5', status: 'failed', completedAt: T0 }),
    aPull({ id: 'c', nodeName: 'n6', status: 'failed', errorReason: 'canceled', completedAt: T0 }),
  ])
  expect(row).toMatchObject({ done: 1, pulling: 1, queued: 1, failed: 1, stopped: 2 })
  expect(row && unfinished(row)).toBe(3)
  expect(row?.slowest?.nodeName).toBe('n2')
})

it('has the median and the longest time of the pulls that downloaded something', () => {
  const cached = aPull({ id: 'c', nodeName: 'n9', status: 'completed', completedAt: T0 })
  const [row] = imageRows([done('n1', 10), done('n2', 30), done('n3', 20), done('n4', 90), cached])
  expect(row).toMatchObject({ medianSeconds: 25, worstSeconds: 90, done: 5 })
  expect(imageRows([cached])[0]?.medianSeconds).toBeUndefined()
})

it('lists unfinished rollouts first', () => {
  const rows = [
    ...imageRows([done('n1', 1), { ...done('n2', 1), id: 'z' }, aPull({ id: 'p', imageRef: 'quay.io/z:1' })]),
  ].sort(byRollout)
  expect(rows.map(({ imageRef }) => imageRef)).toEqual(['quay.io/z:1', 'docker.io/library/nginx:1.27'])
})

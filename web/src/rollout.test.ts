import { expect, it } from 'vitest'
import { byRollout, imageRows } from './rollout'
import { aPull, T0 } from './testing'

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
    aPull({ id: 'x', nodeName: 'n2', status: 'failed' }),
    aPull({ id: 'y', nodeName: 'n3', status: 'extracting', etaSeconds: 5 }),
    done('n4', 10),
  ])
  expect(row).toMatchObject({ done: 1, pulling: 1, queued: 1, failed: 1 })
  expect(row?.slowest?.nodeName).toBe('n2')
})

it('has median and worst of what was fetched, not of what was there', () => {
  const cached = aPull({ id: 'c', nodeName: 'n9', status: 'completed', completedAt: T0 })
  const [row] = imageRows([done('n1', 10), done('n2', 30), done('n3', 20), done('n4', 90), cached])
  expect(row).toMatchObject({ medianSeconds: 25, worstSeconds: 90, done: 5 })
  expect(imageRows([cached])[0]?.medianSeconds).toBeUndefined()
})

it('lists what is not everywhere yet first', () => {
  const rows = [
    ...imageRows([done('n1', 1), { ...done('n2', 1), id: 'z' }, aPull({ id: 'p', imageRef: 'quay.io/z:1' })]),
  ].sort(byRollout)
  expect(rows.map(({ imageRef }) => imageRef)).toEqual(['quay.io/z:1', 'docker.io/library/nginx:1.27'])
})

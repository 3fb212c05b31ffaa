import { expect, it } from 'vitest'
import { aContext, aPod, aPull, T0 } from '../testing'
import { pullText } from './pullText'
import { lastEnded } from './quiet'

it('describes a live pull in a few lines', () => {
  const pull = aPull({
    percent: 41,
    downloadedBytes: 41e6,
    bytesPerSec: 5e6,
    etaSeconds: 12,
    pods: [aPod('p')],
  })
  expect(pullText(pull, 'The disk is slow.', 'http://x/?open=a', aContext([pull]), T0)).toBe(
    [
      'docker.io/library/nginx:1.27 on worker-01',
      'Downloading · 41 % · 41 / 100 MB · 5.0 MB/s · ready in 12 s',
      'The disk is slow.',
      '1 pod: shop/p',
      'http://x/?open=a',
    ].join('\n'),
  )
})

it('contains the error of a failed pull', () => {
  const pull = aPull({
    status: 'failed',
    errorReason: 'not_found',
    error: 'no such tag',
    completedAt: T0 + 2000,
  })
  expect(pullText(pull, undefined, 'link', aContext([pull]), T0)).toContain('Failed: not found')
  expect(pullText(pull, undefined, 'link', aContext([pull]), T0)).toContain('no such tag')
})

it('finds the pull that ended most recently', () => {
  const old = aPull({ id: 'old', completedAt: T0 })
  const last = aPull({ id: 'last', completedAt: T0 + 5 })
  expect(lastEnded([old, last, aPull({ id: 'active' })])).toBe(last)
  expect(lastEnded([aPull()])).toBeUndefined()
})

import { expect, it } from 'vitest'
import { anAttempt, aPull, T0 } from '../testing'
import { secondOfDay, timeOfDay } from './format'
import { momentWords, placeOf } from './moment'
import type { Sample } from './throughput'

const AT = T0 + 600_000

const samples: readonly Sample[] = [0, 60, 120, 180].map(seconds => ({
  at: AT - 120_000 + seconds * 1000,
  rates: new Map([
    ['docker.io', seconds * 1e6],
    ['ghcr.io', 1e6],
  ]),
}))

const ended = (id: string, from: number, to: number, change: object = {}) =>
  aPull({
    id,
    status: 'completed',
    startedAt: AT + from * 1000,
    completedAt: AT + to * 1000,
    ...change,
  })

it('says what was in progress at a moment, how fast, and what has become of it', () => {
  const pulls = [
    ended('early', -500, -400),
    ended('a', -20, 30),
    ended('b', -10, 40),
    ended('c', -10, 0, { status: 'failed', errorReason: 'not_found' }),
    aPull({
      id: 'retried',
      startedAt: AT + 50_000,
      earlier: [anAttempt({ completedAt: AT + 1, startedAt: AT })],
    }),
    ended('later', 1, 5),
  ]
  expect(momentWords(AT, pulls, samples)).toBe(
    `At ${secondOfDay(AT)}: 4 pulls were in progress, 121 MB/s. Now: 2 done, 1 failed, 1 downloading. ` +
      'The list also contains the pulls of the 30 s before and after.',
  )
})

it('says how far back the throughput and the list reach', () => {
  const early = AT - 240_000
  const words = momentWords(early, [ended('a', -5, 30)], samples)
  expect(words).toContain(`At ${secondOfDay(early)}: 0 pulls were in progress;`)
  expect(words).toContain(`the throughput is known only since ${timeOfDay(AT - 120_000)}.`)
  expect(words).toContain(`It contains no pull that ended before ${timeOfDay(AT + 30_000)}.`)
  expect(momentWords(AT, [], [])).toContain('the throughput is not known.')
  const gap = samples.map(sample => ({ ...sample, rates: undefined }))
  expect(momentWords(AT, [], gap)).toContain('the throughput is not known.')
})

it('has a position in the chart unless the chart does not show it', () => {
  expect([-121, -120, -30, 60, 61].map(seconds => placeOf(AT + seconds * 1000, samples))).toEqual([
    undefined,
    0,
    0.5,
    1,
    undefined,
  ])
})

import { describe, expect, it } from 'vitest'
import { anAttempt, aPull, T0 } from '../testing'
import { secondOfDay, timeOfDay } from './format'
import { attemptsAt, momentWords, placeOf } from './moment'
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
    aPull({ id: 'live', startedAt: AT - 3000 }),
    ended('later', 1, 5),
  ]
  const missing =
    'Not included: queued pulls that never started, and failed pulls whose pods were deleted later.'
  expect(momentWords(AT, pulls, samples)).toBe(
    `At ${secondOfDay(AT)}: 5 pulls were in progress, 121 MB/s. Their rows show the present: 2 done, 2 failed, 1 still downloading. ${missing}`,
  )
  const queuedAt = AT - 5000
  const queued = [
    ended('early', -500, -400),
    ended('started-later', 1, 5, { queuedAt }),
    ended('started-before', -1, 5, { queuedAt }),
    ended('queued-later', 8, 9, { queuedAt: AT + 5000 }),
    aPull({ id: 'still', status: 'queued', startedAt: AT - 1000 }),
    ended('never-began', -2, 5, { queuedAt: AT - 2000, status: 'failed', errorReason: 'canceled' }),
    ended('failed-later', 20, 30, {
      earlier: [anAttempt({ queuedAt, startedAt: AT + 2000, completedAt: AT + 3000 })],
    }),
  ]
  expect(momentWords(AT, queued, samples)).toBe(
    `At ${secondOfDay(AT)}: 1 pull was in progress and at least 4 were queued, 121 MB/s. Their rows show the present: 2 done, 1 still queued, 1 cancelled, 1 failed. ${missing}`,
  )
})

it('names the images that were waiting for a retry', () => {
  const failed = (id: string, from: number, to: number, change: object = {}) =>
    ended(id, from, to, {
      status: 'failed',
      errorReason: 'not_found',
      imageRef: `quay.io/${id}:1`,
      ...change,
    })
  const earlier = [anAttempt({ startedAt: AT - 9000, completedAt: AT - 8000 })]
  const pulls = [
    failed('still', -20, -10, { nextRetryAt: AT + 90_000 }),
    failed('given-up', -20, -10),
    failed('cancelled', -20, -10, { errorReason: 'canceled', nextRetryAt: AT + 90_000 }),
    failed('failed-later', 5, 6, { nextRetryAt: AT + 90_000 }),
    ended('succeeded', 20, 30, { earlier, imageRef: 'quay.io/succeeded:1' }),
    ended('running', -1, 30, { earlier }),
  ]
  expect(momentWords(AT, pulls, samples)).toContain(
    'Waiting for a retry: still:1 on worker-01, succeeded:1 on worker-01.',
  )
})

describe('the attempts at a moment', () => {
  const retried = aPull({
    id: 'retried',
    attempt: 3,
    status: 'failed',
    errorReason: 'canceled',
    startedAt: AT + 50_000,
    completedAt: AT + 60_000,
    bytesPerSec: 9e6,
    earlier: [
      anAttempt({ attempt: 1, startedAt: AT - 40_000, completedAt: AT - 30_000 }),
      anAttempt({ attempt: 2, startedAt: AT - 10_000, completedAt: AT + 200, percent: 38 }),
    ],
  })

  it('are those that were running within that second', () => {
    const attempts = (seconds: number) =>
      attemptsAt([retried], AT + seconds * 1000).map(({ attempt }) => attempt)
    expect([-41, -40, -30, -29, -11, -10, 0, 1, 49, 50, 60, 61].map(attempts)).toEqual([
      [],
      [1],
      [1],
      [],
      [],
      [2],
      [2],
      [],
      [],
      [3],
      [3],
      [],
    ])
  })

  it('have the times and the result of the attempt, not those of a later one', () => {
    const [second] = attemptsAt([retried], AT)
    expect(second).toMatchObject({
      id: 'retried',
      status: 'failed',
      errorReason: 'not_found',
      startedAt: AT - 10_000,
      completedAt: AT + 200,
      percent: 38,
      earlier: [{ attempt: 1 }],
      downloadedBytes: 0,
      layers: [],
    })
    expect(attemptsAt([retried], AT + 55_000)).toEqual([retried])
  })

  it('omit the factor that limits the pull now', () => {
    const live = aPull({ bound: { by: 'network', why: '', figures: {} } })
    expect(attemptsAt([live], AT)[0]?.bound).toBeUndefined()
  })
})

it('says how far back the throughput and the list reach', () => {
  const early = AT - 240_000
  const words = momentWords(early, [ended('a', -5, 30)], samples)
  expect(words).toContain(`At ${secondOfDay(early)}: 0 pulls were in progress;`)
  expect(words).toContain(`the throughput is known only since ${timeOfDay(AT - 120_000)}.`)
  expect(words).toContain(`The list contains no pull that ended before ${timeOfDay(AT + 30_000)}.`)
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

it('counts pulls that are still queued separately from those that were in progress', () => {
  const queued = (id: string) => aPull({ id, status: 'queued', startedAt: AT - 3000 })
  const words = momentWords(AT, [ended('a', -20, 30), queued('q'), queued('r')], samples)
  expect(words).toContain(
    `At ${secondOfDay(AT)}: 1 pull was in progress and at least 2 were queued, 121 MB/s.`,
  )
  expect(words).toContain('Their rows show the present: 1 done, 2 still queued.')
  expect(momentWords(AT, [queued('q')], samples)).toContain(
    '0 pulls were in progress and at least 1 was queued, 121',
  )
})

it('shows the throughput of the step that contains the moment', () => {
  const steps = [0, 5, 10].map(seconds => ({
    at: AT + seconds * 1000,
    rates: new Map([['docker.io', (seconds + 1) * 1e6]]),
  }))
  const rates = [0, 4, 5, 9, 10].map(seconds => momentWords(AT + seconds * 1000, [], steps))
  expect(rates.map(words => /, (\S+) MB/.exec(words)?.[1])).toEqual(['1.0', '1.0', '6.0', '6.0', '11.0'])
})

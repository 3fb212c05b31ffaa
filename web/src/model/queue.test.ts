import { describe, expect, it } from 'vitest'
import { aPod, aPull, T0 } from '../testing'
import type { Pull } from '../wire/wire'
import { blockedWords, deletedCount, forecast, livePulls, ordinal, placeWords, queuePlace } from './queue'

const active = aPull({ id: 'active', etaSeconds: 70, startedAt: T0 })
const first = aPull({ id: 'first', status: 'queued', startedAt: T0 + 1000 })
const second = aPull({ id: 'second', status: 'queued', startedAt: T0 + 2000 })
const elsewhere = aPull({ id: 'elsewhere', nodeName: 'other', startedAt: T0 - 5000 })
const ended = aPull({ id: 'ended', status: 'completed', startedAt: T0 - 9000 })
const live = livePulls([second, ended, first, elsewhere, active])

it('lists the live pulls of each node, oldest first', () => {
  expect(live.get('worker-01')?.map(({ id }) => id)).toEqual(['active', 'first', 'second'])
})

it('finds the position in the queue and the pulls ahead', () => {
  const place = queuePlace(second, live)
  expect(place?.position).toBe(2)
  expect(place?.ahead.map(({ id }) => id)).toEqual(['active', 'first'])
  expect(queuePlace(first, live)?.position).toBe(1)
  expect(queuePlace(active, live)).toBeUndefined()
})

it('counts an active pull as ahead in the queue even if the kubelet requested it later', () => {
  const late = aPull({ id: 'late', startedAt: T0 + 9000 })
  expect(queuePlace(first, livePulls([first, late]))?.ahead.map(({ id }) => id)).toEqual(['late'])
})

const wordsFor = (pull: Pull, ...others: readonly Pull[]) => {
  const place = queuePlace(pull, livePulls([pull, ...others]))
  return place && placeWords(place)
}

it('says which pull is next, and which place the others have', () => {
  expect(wordsFor(first, second, active)).toBe('next, after 1 running')
  expect(wordsFor(second, first, active)).toBe('2nd in queue')
  expect(wordsFor(first)).toBe('')
})

it('pulls of deleted pods are ahead in the queue although they have no rows', () => {
  const bound = { by: 'queue', why: '', figures: { deletedPodsAhead: 2 } } as const
  const pull = { ...first, bound }
  expect(wordsFor(pull, active)).toBe('3rd in queue')
  expect(wordsFor(pull)).toBe('3rd in queue')
  const place = queuePlace(pull, livePulls([pull, active]))
  expect(place && forecast(pull, place, T0)).toMatchObject({ start: 70, unknown: { id: 'first' } })
})

it('no pull is called next if the kubelet requested several at the same time', () => {
  const twin = { ...first, id: 'twin' }
  expect(wordsFor(first, twin, second, active)).toBe('1st to 2nd in queue')
  expect(wordsFor(twin, first, second, active)).toBe('1st to 2nd in queue')
  expect(wordsFor(second, first, twin, active)).toBe('3rd in queue')
})

describe('the forecast of a queued pull', () => {
  const queued = (id: string, usualSeconds: number | undefined, second: number) =>
    aPull({ id, status: 'queued', usualSeconds, startedAt: T0 + second * 1000 })
  const forecasts = (...pulls: readonly Pull[]) =>
    pulls
      .filter(({ status }) => status === 'queued')
      .map(pull => {
        const place = queuePlace(pull, livePulls(pulls))
        const found = place && forecast(pull, place, T0)
        return [found?.start, found?.ready, found?.unknown?.id]
      })

  it('the forecast adds up the usual durations of the pulls ahead and of the queued pull', () => {
    expect(forecasts(active, queued('b', 20, 1), queued('c', 5, 2))).toEqual([
      [70, 90, undefined],
      [90, 95, undefined],
    ])
  })

  it('the forecast fills each slot of the node as soon as it is free', () => {
    const quick = aPull({ id: 'quick', etaSeconds: 10, startedAt: T0 })
    expect(forecasts(active, quick, queued('b', 100, 1), queued('c', 5, 2), queued('d', 1, 3))).toEqual([
      [10, 110, undefined],
      [70, 75, undefined],
      [75, 76, undefined],
    ])
  })

  it('the forecast is a lower bound after the first pull without an estimate, and names that pull', () => {
    expect(forecasts(active, queued('b', 20, 1), queued('c', undefined, 2), queued('d', 5, 3))).toEqual([
      [70, 90, undefined],
      [90, 90, 'c'],
      [90, 95, 'c'],
    ])
    expect(forecasts(aPull({ id: 'unpacking' }), queued('b', 20, 1))).toEqual([[0, 20, 'unpacking']])
  })

  it('a queued pull with no pulls ahead is expected to start immediately', () => {
    expect(forecasts(queued('b', 20, 1))).toEqual([[0, 20, undefined]])
  })

  it('the forecast counts down while the pull ahead is running', () => {
    const running = { ...active, updatedAt: T0 }
    const place = { position: 1, ahead: [running] }
    expect(forecast(queued('b', 20, 1), place, T0 + 60_000)).toMatchObject({ start: 10, ready: 30 })
  })
})

it('formats ordinals', () => {
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

it('says that pulls are queued behind the only running pull of a node although no pod waits for it', () => {
  const bound = { by: 'queue', why: '', figures: {} } as const
  const gone = aPull({ id: 'gone' })
  const queued = aPull({ id: 'q', status: 'queued', pods: [aPod('q')], bound })
  const words = (pull: Pull, ...others: readonly Pull[]) =>
    blockedWords(pull, livePulls([pull, ...others, queued]))
  expect(words(gone)).toBe('No pod waits for it; 1 pull queues behind it')
  expect(words(gone, { ...queued, id: 'r' })).toBe('No pod waits for it; 2 pulls queue behind it')
  expect(words(gone, aPull({ id: 'other' }))).toBe('')
  expect(words({ ...gone, imageRef: '__pulling__' })).toBe('')
  expect(words({ ...gone, pods: [aPod('q')] })).toBe('')
  expect(blockedWords(gone, livePulls([gone]))).toBe('')
  expect(blockedWords(queued, livePulls([gone, queued]))).toBe('')
})

it('counts the queued pulls of deleted pods, which have no rows', () => {
  const queued = (id: string, deletedPodsAhead: number) =>
    aPull({ id, status: 'queued', bound: { by: 'queue', why: '', figures: { deletedPodsAhead } } })
  const ofNode = [aPull({ id: 'gone' }), queued('q', 0), queued('r', 6)]
  expect(deletedCount(ofNode)).toBe(6)
  expect(deletedCount([])).toBe(0)
  expect(ofNode[0] && blockedWords(ofNode[0], livePulls(ofNode))).toBe(
    'No pod waits for it; 8 pulls queue behind it, 6 of them for deleted pods',
  )
})

import { expect, it } from 'vitest'
import { aListedPod, anAttempt, aPod, aPull, around, aStartedPod, T0 } from '../testing'
import { podRow, podRows } from './podRows'
import { phaseSteps, startWords } from './startPhases'

it('a pod shows the phases of its start-up with their durations', () => {
  const phases = [
    { phase: 'scheduled', startedAt: T0, seconds: 2 },
    { phase: 'pulling', startedAt: T0 + 2000, seconds: undefined },
  ]
  expect(
    phaseSteps(podRow({ ...aListedPod(), phases }, around()), T0 + 9000).map(({ seconds }) => seconds),
  ).toEqual([2, 7])
  expect(phaseSteps(podRow(aListedPod(), around()), T0)).toEqual([])
})

it('says how long a start took, how much of that time the image and its queue took, and whether attempts failed', () => {
  const pull = aPull({
    status: 'completed',
    attempt: 4,
    waited: [{ ...aPod('a'), namespace: 'ml' }],
  })
  const [quick, late] = podRows([aStartedPod('b', T0), aStartedPod('a', T0)], new Map([['a', pull]]), T0)
  expect(quick && startWords(quick)).toBe('took 1:30, 1:27 for the image (1:24 queued)')
  expect(late && startWords(late)).toBe('took 1:30, 1:27 for the image, 3 attempts failed')
  const cancelled = { ...pull, attempt: 2, earlier: [anAttempt({ errorReason: 'canceled' })] }
  const [calm] = podRows([aStartedPod('a', T0)], new Map([['a', cancelled]]), T0)
  expect(calm && startWords(calm)).toBe('took 1:30, 1:27 for the image (1:24 queued)')
  expect(quick && phaseSteps(quick, T0)[1]?.name).toBe('queued')
  expect(late && phaseSteps(late, T0)[1]?.name).toBe('failing (3 attempts)')
})

it('rounds the phases so that their durations add up to the duration of the start', () => {
  const times = [0, 0.4, 38.3, 38.5]
  const phases = ['scheduled', 'queued', 'pulling'].map((phase, at) => ({
    phase,
    startedAt: T0 + (times[at] ?? 0) * 1000,
    seconds: (times[at + 1] ?? 0) - (times[at] ?? 0),
  }))
  const [row] = podRows([{ ...aStartedPod('a', T0 + 38_500), tookSeconds: 38.5, phases }], new Map(), T0)
  expect(row && phaseSteps(row, T0).map(({ seconds }) => seconds)).toEqual([0, 38, 1])
  expect(row && startWords(row)).toBe('took 39 s, 39 s for the image (38 s queued)')
})

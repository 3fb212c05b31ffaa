import { expect, it } from 'vitest'
import { ServerClock } from './serverClock'

it('goes on from what the server said, whatever the reader’s clock says', () => {
  let local = 1000
  const clock = new ServerClock(() => local)
  clock.set(5_000_000)
  local += 1500
  expect(clock.now()).toBe(5_001_500)
})

it('catches up with an event after a sleep, and never goes back', () => {
  const clock = new ServerClock(() => 0)
  clock.set(1000)
  clock.atLeast(9000)
  expect(clock.now()).toBe(9000)
  clock.atLeast(4000)
  expect(clock.now()).toBe(9000)
})

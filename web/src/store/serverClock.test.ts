import { expect, it } from 'vitest'
import { ServerClock } from './serverClock'

it('the clock continues from the server’s time, regardless of this machine’s clock', () => {
  let local = 1000
  const clock = new ServerClock(() => local)
  clock.set(5_000_000)
  local += 1500
  expect(clock.now()).toBe(5_001_500)
})

it('the clock advances to the time of an event after a sleep, and never goes back', () => {
  const clock = new ServerClock(() => 0)
  clock.set(1000)
  clock.atLeast(9000)
  expect(clock.now()).toBe(9000)
  clock.atLeast(4000)
  expect(clock.now()).toBe(9000)
})

/** The pull that ended last, which is shown while no image is being pulled. */
import type { Pull } from '../wire/wire'

export interface LastPull {
  readonly pull: Pull
  readonly endedAt: number
}

export function lastEnded(pulls: Iterable<Pull>): LastPull | undefined {
  let last: LastPull | undefined
  for (const pull of pulls) {
    const endedAt = pull.completedAt
    if (endedAt !== undefined && (last === undefined || endedAt > last.endedAt)) last = { pull, endedAt }
  }
  return last
}

/** The pull that finished most recently, which is shown while no image is being pulled. */
import type { Pull } from '../wire/wire'

export function lastEnded(pulls: Iterable<Pull>): Pull | undefined {
  let last: Pull | undefined
  for (const pull of pulls) if ((pull.completedAt ?? 0) > (last?.completedAt ?? 0)) last = pull
  return last
}

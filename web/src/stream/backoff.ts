/** Calculates how long to wait before the next attempt. */

const FIRST_MS = 1000
const MOST_MS = 30_000

/**
 * The delay doubles from one second up to thirty seconds. Half of the delay is random, so a hundred tabs do not all
 * reconnect to a restarted server at the same time.
 */
export function backoff(failures: number, random: () => number): number {
  const whole = Math.min(MOST_MS, FIRST_MS * 2 ** Math.max(0, failures - 1))
  return Math.round(whole * (0.5 + random() / 2))
}

/** The phases of a pod's start-up. */
import type { Pod, StartPhase } from '../wire/wire'
import { clock, count, joined } from './format'

export interface PhaseStep extends StartPhase {
  /** The name of the phase as shown on the page. */
  readonly name: string
  readonly seconds: number
}

/** A pod, and how many attempts to pull one of its images have failed. */
interface Start {
  readonly pod: Pod
  readonly failures: number
}

interface StartedPod extends Start {
  /** The result of `imageSeconds`. */
  readonly imageSeconds: number | undefined
}

/** The phases of a pod's start-up with their durations. The last phase may still be in progress. The server's `queued`
 * phase includes failed attempts and the time between them. Rounds the times since the start of the first phase instead
 * of the durations, so the durations add up to the total duration of the start-up. */
export function phaseSteps({ pod, failures }: Start, now: number): readonly PhaseStep[] {
  const begin = pod.phases[0]?.startedAt ?? now
  const rounded = (at: number) => Math.round((at - begin) / 1000)
  return pod.phases.map(step => {
    const { phase, startedAt, seconds } = step
    const end = seconds === undefined ? Math.max(now, startedAt) : startedAt + seconds * 1000
    return {
      ...step,
      name: phase === 'queued' && failures > 0 ? `failing (${count(failures, 'attempt')})` : phase,
      seconds: rounded(end) - rounded(startedAt),
    }
  })
}

const OF_IMAGE = ['queued', 'pulling', 'unpacking']

/** How many seconds it took until the pod's images were on the node; undefined if it pulled none. */
export function imageSeconds(start: Start): number | undefined {
  const steps = phaseSteps(start, 0).filter(({ phase }) => OF_IMAGE.includes(phase))
  return steps.length === 0 ? undefined : steps.reduce((sum, { seconds }) => sum + seconds, 0)
}

/** `took 30 s, 29 s for the image (28 s queued)`: the time from scheduling to the start, how much of it passed before
 * the image was on the node, and how long the pull was queued if that was most of this time. */
export function startWords({ pod, failures, imageSeconds: seconds }: StartedPod): string {
  const queued = phaseSteps({ pod, failures }, 0).find(({ phase }) => phase === 'queued')?.seconds ?? 0
  const isQueue = seconds !== undefined && failures === 0 && queued > seconds / 2
  return joined(
    ', ',
    `took ${clock(pod.tookSeconds ?? 0)}`,
    seconds !== undefined && `${clock(seconds)} for the image${isQueue ? ` (${clock(queued)} queued)` : ''}`,
    failures > 0 && `${count(failures, 'attempt')} failed`,
  )
}

import { failureWords } from '../model/attention'
import { isRetrying, pullState, stopped } from '../model/pullState'
import type { Pull } from '../wire/wire'

interface Props {
  readonly pull: Pull
  /** All pulls in the row. */
  readonly pulls?: readonly Pull[]
}

/** The text that replaces the progress bar: the cause of the last failure, the attempt that is running, or how far a
 * cancelled pull got. */
export function Reason({ pull, pulls = [pull] }: Props) {
  if (pullState(pull) === 'cancelled')
    return `${pull.attempt > 1 ? `attempt ${pull.attempt} ` : ''}${stopped(pull)}`
  if (isRetrying(pull)) return `attempt ${pull.attempt} is running`
  return failureWords(pull, pulls)
}

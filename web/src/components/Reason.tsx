import { isNeverPulled } from '../model/attention'
import { reasonWords } from '../model/failureGroups'
import { isRetrying, pullState, stopped } from '../model/pullState'
import type { Pull } from '../wire/wire'

/** The text that replaces the progress bar: the cause of the last failure, the attempt that is running, or how far a
 * cancelled pull got. */
export function Reason({ pull }: { readonly pull: Pull }) {
  if (pullState(pull) === 'cancelled') return stopped(pull)
  if (isRetrying(pull)) return `attempt ${pull.attempt} is running`
  return isNeverPulled(pull) ? 'not on the node' : reasonWords(pull)
}

import { isNeverPulled, REASON_WORDS } from '../model/attention'
import { reasonOf } from '../model/failureGroups'
import { pullState, stopped } from '../model/pullState'
import type { Pull } from '../wire/wire'

/** Replaces the progress bar: the cause of a failure, or the progress of a cancelled pull. */
export function Reason({ pull }: { readonly pull: Pull }) {
  if (pullState(pull) === 'cancelled') return stopped(pull)
  return isNeverPulled(pull) ? 'not on the node' : REASON_WORDS[reasonOf(pull)]
}

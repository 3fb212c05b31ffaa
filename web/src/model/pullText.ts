/** Describes a pull as plain text, for use in a chat or a ticket. */
import type { Pull } from '../wire/wire'
import { failingWords, reasonWords } from './failureGroups'
import { bytes, clock, count, joined, ofTotal, rate } from './format'
import { timeLeftWords } from './limit'
import { progressFigure, pullState, shownRate, stateWord, tookSeconds } from './pullState'
import { type Context, podName } from './standing'

export function pullText(
  pull: Pull,
  sentence: string | undefined,
  link: string,
  context: Context,
  now: number,
): string {
  const took = tookSeconds(pull)
  const speed = shownRate(pull)
  const left = timeLeftWords(pull, now)
  const state = pullState(pull)
  const facts = joined(
    ' · ',
    stateWord(pull) + (state === 'failed' ? `: ${reasonWords(pull)}` : ''),
    failingWords([pull], context, now),
    progressFigure(pull),
    pull.totalBytes > 0
      ? ofTotal(pull.downloadedBytes, pull.totalBytes)
      : pull.imageBytes > 0 && bytes(pull.imageBytes),
    speed !== undefined && rate(speed),
    took !== undefined && `took ${clock(took)}`,
    left !== undefined && `ready in ${left}`,
  )
  const pods = [...new Set(pull.pods.map(podName))]
  return joined(
    '\n',
    `${pull.imageRef} on ${pull.nodeName}`,
    facts,
    sentence,
    pull.error,
    pods.length > 0 && `${count(pods.length, 'pod')}: ${pods.join(', ')}`,
    link,
  )
}

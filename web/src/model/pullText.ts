/** Describes a pull as plain text, for a chat or a ticket. */
import type { Pull } from '../wire/wire'
import { REASON_WORDS } from './attention'
import { reasonOf } from './failureGroups'
import { bytes, clock, count, ofTotal, percent, rate } from './format'
import { timeLeftWords } from './limit'
import { averageRate, knownPercent, pullState, STATE_WORD, tookSeconds } from './pullState'
import { podName } from './standing'

export function pullText(pull: Pull, sentence: string | undefined, link: string, now: number): string {
  const took = tookSeconds(pull)
  const speed = averageRate(pull) ?? (pull.status === 'downloading' ? pull.bytesPerSec : undefined)
  const left = timeLeftWords(pull, now)
  const state = pullState(pull)
  const facts = [
    STATE_WORD[state] + (state === 'failed' ? `: ${REASON_WORDS[reasonOf(pull)]}` : ''),
    percent(knownPercent(pull)),
    pull.totalBytes > 0 ? ofTotal(pull.downloadedBytes, pull.totalBytes) : bytes(pull.imageBytes),
    ...(speed === undefined ? [] : [rate(speed)]),
    ...(took === undefined ? [] : [`took ${clock(took)}`]),
    ...(left === undefined ? [] : [`ready in ${left}`]),
  ]
  const pods = [...new Set(pull.pods.map(podName))]
  return [
    `${pull.imageRef} on ${pull.nodeName}`,
    facts.join(' · '),
    ...(sentence === undefined ? [] : [sentence]),
    ...(pull.error === undefined ? [] : [pull.error]),
    ...(pods.length === 0 ? [] : [`${count(pods.length, 'pod')}: ${pods.join(', ')}`]),
    link,
  ].join('\n')
}

import { describe, expect, it } from 'vitest'
import { anAttempt, aPull } from '../testing'
import { causeWords, reasonWords } from './failureGroups'

describe('why a pull failed', () => {
  const failed = (error: string | undefined) => causeWords({ errorReason: 'unknown', error })

  it('is the short cause in the error if the reason is unknown', () => {
    expect(failed('containerd restarted during the pull')).toBe('containerd restarted during the pull')
    const wrapped = 'failed to pull and unpack image "a:1": failed to mount /tmp: operation not permitted'
    expect(failed(`${wrapped}\nmore`)).toBe('operation not permitted')
  })

  it('is unknown if the error has no short cause', () => {
    expect(failed('the pull was cancelled or failed; the kubelet knows why')).toBe('unknown error')
    expect([failed(undefined), failed('')]).toEqual(['unknown error', 'unknown error'])
  })

  it('is the reason if it is known, also that of the attempt before a retry', () => {
    expect(causeWords({ errorReason: 'not_found', error: 'containerd restarted' })).toBe('not found')
    const earlier = [anAttempt({ errorReason: 'unknown', error: 'containerd restarted during the pull' })]
    expect(reasonWords(aPull({ attempt: 2, earlier }))).toBe('containerd restarted during the pull')
  })
})

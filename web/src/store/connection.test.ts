import { describe, expect, it } from 'vitest'
import { type Connection, type ConnectionEvent, connecting, isConnected, next } from './connection'

const NOW = 1_000_000
const REFUSAL = { status: 503, reason: 'too many readers' }

const live: ConnectionEvent = { kind: 'live' }
const lost: ConnectionEvent = { kind: 'lost', retryAt: NOW + 1000, now: NOW }
const lostAgain: ConnectionEvent = { kind: 'lost', retryAt: NOW + 9000, now: NOW + 5000 }
const silent: ConnectionEvent = { kind: 'silent', since: NOW }
const trying: ConnectionEvent = { kind: 'trying' }
const refused: ConnectionEvent = { kind: 'refused', refusal: REFUSAL }
const list: ConnectionEvent = { kind: 'list', arrived: true, now: NOW }
const noList: ConnectionEvent = { kind: 'list', arrived: false, now: NOW }
const nodes: ConnectionEvent = { kind: 'nodes', arrived: true }
const noNodes: ConnectionEvent = { kind: 'nodes', arrived: false }

/** Returns the state of the connection after these events and the number of times that the stream was retried. */
function after(...events: readonly ConnectionEvent[]): { shown: Connection; retries: number } {
  let state = connecting(NOW)
  let retries = 0
  for (const event of events) {
    const step = next(state, event)
    state = step.state
    retries += Number(step.retry)
  }
  return { shown: state.shown, retries }
}

const away = (change: object = {}) => ({
  kind: 'lost',
  since: NOW,
  retryAt: NOW + 1000,
  refusal: undefined,
  ...change,
})

describe('the connection', () => {
  it.each<[string, readonly ConnectionEvent[], object, number]>([
    ['connects', [live], { kind: 'live' }, 0],
    ['is lost, with the time of the next attempt', [live, lost], away(), 0],
    [
      'keeps the time at which it was lost',
      [live, lost, trying, lostAgain],
      away({ retryAt: NOW + 9000 }),
      0,
    ],
    [
      'has no time of the next attempt during an attempt',
      [live, lost, trying],
      away({ retryAt: undefined }),
      0,
    ],
    ['is live again', [live, lost, trying, live], { kind: 'live' }, 0],
    ['retries the stream when the first list arrives', [live, lost, list], away(), 1],
    ['polls from the second list on', [live, lost, list, list], { kind: 'polling', refusal: undefined }, 1],
    [
      'polls behind a proxy that never opens the stream',
      [list, list],
      { kind: 'polling', refusal: undefined },
      0,
    ],
    [
      'polls if the state does not arrive',
      [live, silent, list, list],
      { kind: 'polling', refusal: undefined },
      0,
    ],
    ['is live when the state has arrived', [live, silent, list, list, live], { kind: 'live' }, 0],
    ['does not retry twice during an attempt', [live, lost, trying, list], away({ retryAt: undefined }), 0],
    [
      'keeps polling while the stream fails',
      [list, list, lost, trying],
      { kind: 'polling', refusal: undefined },
      0,
    ],
    ['is lost when the list fails as well', [list, list, lost, noList], away(), 0],
    ['must see two lists again after a failed one', [list, list, lost, noList, list], away(), 1],
    ['ignores a late list while the stream is live', [live, list, list], { kind: 'live' }, 0],
    ['has the reason of a refusal', [lost, refused], away({ refusal: REFUSAL }), 0],
    ['has the reason while it polls', [lost, refused, list, list], { kind: 'polling', refusal: REFUSAL }, 1],
    [
      'has a reason that arrives while it polls',
      [lost, list, list, refused],
      { kind: 'polling', refusal: REFUSAL },
      1,
    ],
    ['forgets the reason once it is live', [lost, refused, live, lost], away(), 0],
    ['retries the stream when two list requests fail', [live, noNodes, noNodes], { kind: 'live' }, 1],
    ['retries it once, however many fail', [live, noNodes, noNodes, noNodes], { kind: 'live' }, 1],
    ['does not suspect it after one failure', [live, noNodes, nodes, noNodes], { kind: 'live' }, 0],
    ['does not suspect a lost stream', [live, lost, noNodes, noNodes], away(), 0],
  ])('%s', (_, events, shown, retries) => {
    expect(after(...events)).toEqual({ shown, retries })
  })
})

it('the page is connected through the stream or the list', () => {
  expect((['live', 'polling', 'lost', 'connecting'] as const).map(kind => isConnected({ kind }))).toEqual([
    true,
    true,
    false,
    false,
  ])
})

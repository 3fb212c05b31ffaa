import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { T0 } from '../testing'
import { WireError } from './reader'
import {
  parseHello,
  parseNodeList,
  parsePodList,
  parsePull,
  parsePullEvent,
  parsePullList,
  parseThroughput,
} from './wire'

function golden(name: string): unknown {
  return JSON.parse(
    readFileSync(join(import.meta.dirname, '../../../tests/contract', `${name}.json`), 'utf8'),
  )
}

function pullOf(name: string) {
  const event = parsePullEvent(golden(name))
  if (event.kind !== 'changed') throw new Error(`${name} removes a pull`)
  return event.pull
}

describe('the golden JSON shared with the server', () => {
  it('parses hello', () => {
    expect(parseHello(golden('hello'))).toEqual({
      version: '0.2.0',
      time: Date.UTC(2026, 10, 23, 14, 2, 45),
      pulls: 12,
    })
  })

  it('parses progress with layers and pods', () => {
    const pull = pullOf('event-progress')
    expect(pull).toMatchObject({
      id: 'gpu-03.torch.1',
      status: 'downloading',
      refGuessed: true,
      etaSeconds: 31.5,
    })
    expect(pull.layers?.map(layer => layer.state)).toEqual([
      'cached',
      'extracted',
      'downloading',
      'downloaded',
      'downloading',
      'waiting',
    ])
    expect(pull.layers?.[4]?.fetchedBy).toBe('gpu-03.triton.1')
    expect(pull.layers?.[5]?.startedAt).toBeUndefined()
    expect(pull.pods).toHaveLength(2)
    expect(pull.pods[1]?.owner).toBeUndefined()
  })

  it('parses the start of a pull without any details', () => {
    expect(pullOf('event-started')).toMatchObject({
      imageRef: '__pulling__',
      totalKnown: false,
      pods: [],
      layers: undefined,
    })
  })

  it('parses completed and failed pulls', () => {
    expect(pullOf('event-completed')).toMatchObject({ status: 'completed', percent: 100 })
    expect(pullOf('event-failed')).toMatchObject({
      status: 'failed',
      errorReason: 'unauthorized',
      attempt: 4,
    })
  })

  it('parses a removal', () => {
    expect(parsePullEvent(golden('event-removed'))).toMatchObject({
      kind: 'removed',
      id: 'worker-02.nginx.1',
    })
  })

  it('parses a list of pulls, and throws an error for anything else', () => {
    const { pull } = golden('event-progress') as { pull: unknown }
    expect(parsePullList({ pulls: [pull] })).toEqual([parsePull(pull)])
    expect(parsePullList({ pulls: [] })).toEqual([])
    expect(() => parsePullList('<html>')).toThrow(WireError)
  })

  it('parses the lists of nodes and pods', () => {
    expect(parseNodeList(golden('nodes')).nodes.map(node => node.state)).toEqual(['reporting', 'lost'])
    const { pods, watching } = parsePodList(golden('pods'))
    expect(watching).toBe(true)
    expect(pods[0]?.containers.map(one => [one.kind, one.state])).toEqual([
      ['init', 'completed'],
      ['app', 'downloading'],
    ])
  })
})

describe('an unexpected value', () => {
  const least = { id: 'a', nodeName: 'n', imageRef: 'i', startedAt: '2026-11-23T14:00:00Z' }

  it('an unknown field is ignored', () => {
    expect(parsePull({ ...least, future: { a: 1 } }).id).toBe('a')
  })

  it('a missing value is replaced by a default', () => {
    expect(parsePull(least)).toMatchObject({
      status: 'downloading',
      attempt: 1,
      percent: 0,
      pods: [],
      layers: undefined,
    })
  })

  it('an unknown status is replaced by one that follows from the other fields', () => {
    expect(parsePull({ ...least, status: 'mounting' }).status).toBe('downloading')
    expect(parsePull({ ...least, status: 'mounting', error: 'x' }).status).toBe('failed')
    expect(parsePull({ ...least, completedAt: '2026-11-23T14:00:01Z' }).status).toBe('completed')
  })

  it('an unexpected reason counts as unknown', () => {
    expect(parsePull({ ...least, errorReason: 'quota' }).errorReason).toBe('unknown')
  })

  it.each([
    ['not an object', null, 'pull'],
    ['an array', [], 'pull'],
    ['no id', { ...least, id: undefined }, 'id'],
    ['a number instead of a name', { ...least, nodeName: 5 }, 'nodeName'],
    ['no time', { ...least, startedAt: 'yesterday' }, 'startedAt'],
    ['layers that are not a list', { ...least, layers: {} }, 'layers'],
  ])('is rejected with an error that names the field: %s', (_, value, field) => {
    expect(() => parsePull(value)).toThrow(WireError)
    expect(() => parsePull(value)).toThrow(field)
  })

  it('a number that is not finite is ignored', () => {
    expect(parsePull({ ...least, percent: Number.NaN, etaSeconds: 'soon' })).toMatchObject({
      percent: 0,
      etaSeconds: undefined,
    })
  })
})

describe('fields that newer servers send', () => {
  const least = { id: 'a', nodeName: 'n', imageRef: 'i', startedAt: '2026-11-23T14:00:00Z' }

  it('fields of newer servers are read if they are present', () => {
    const pull = parsePull(
      {
        ...least,
        status: 'unobserved',
        bound: { by: 'disk', why: 'The disk writes 80 MB/s.', figures: { diskBusyPercent: 92, odd: 'x' } },
        via: ['mirror.local'],
        usualSeconds: 130,
        slowerThanUsual: 2.9,
        usualCount: 4,
        usualComparable: true,
        remoteBytes: 5,
        percentBasis: 'layers',
        etaMissing: 'its size is not known',
        waited: [{ namespace: 'n', podName: 'p' }],
        layers: [{ digest: 'sha256:a', state: 'remote', extractStartedAt: '2026-11-23T14:00:05Z' }],
      },
      7,
    )
    expect(pull).toMatchObject({
      status: 'unobserved',
      usualCount: 4,
      usualComparable: true,
      bound: { by: 'disk', why: 'The disk writes 80 MB/s.', figures: { diskBusyPercent: 92 } },
      via: ['mirror.local'],
      usualSeconds: 130,
      slowerThanUsual: 2.9,
      remoteBytes: 5,
      percentBasis: 'layers',
      etaMissing: 'its size is not known',
      waited: [{ namespace: 'n', podName: 'p' }],
      updatedAt: 7,
    })
    expect(pull.layers?.[0]).toMatchObject({
      state: 'remote',
      extractStartedAt: Date.UTC(2026, 10, 23, 14, 0, 5),
    })
  })

  it('missing fields are undefined or have a default', () => {
    expect(parsePull(least)).toMatchObject({
      bound: undefined,
      usualSeconds: undefined,
      slowerThanUsual: undefined,
      remoteBytes: 0,
      percentBasis: 'bytes',
    })
  })

  it.each([
    [
      { by: 'moon', why: 'x' },
      { by: 'unknown', why: 'x', figures: {} },
    ],
    [{}, { by: 'unknown', why: '', figures: {} }],
    ['disk', undefined],
    [null, undefined],
  ])('are parsed leniently: bound %j', (bound, expected) => {
    expect(parsePull({ ...least, bound }).bound).toEqual(expected)
  })

  it('parses the phases of a pod, and pods that started recently, which newer servers send', () => {
    const phases = [
      { phase: 'scheduled', startedAt: '2026-11-23T14:00:00Z', seconds: 4.5 },
      { phase: 'pulling', startedAt: '2026-11-23T14:00:09Z' },
    ]
    const pod = { namespace: 'n', podName: 'p', phases }
    const { pods } = parsePodList({ pods: [pod], started: [{ ...pod, podName: 'q', seconds: 12.5 }] })
    expect(pods.map(({ podName, tookSeconds }) => [podName, tookSeconds])).toEqual([
      ['p', undefined],
      ['q', 12.5],
    ])
    expect(pods[0]?.phases).toEqual([
      { phase: 'scheduled', startedAt: Date.UTC(2026, 10, 23, 14), seconds: 4.5 },
      { phase: 'pulling', startedAt: Date.UTC(2026, 10, 23, 14, 0, 9), seconds: undefined },
    ])
  })

  it('parses the nodes without an agent, which newer servers send', () => {
    const unobserved = [{ count: 2, names: ['a', 'b'], reason: 'no agent has reported from it' }]
    expect(parseNodeList({ nodes: [], registries: [], unobserved }).unobserved).toEqual(unobserved)
    expect(parseNodeList({ nodes: [] }).unobserved).toEqual([])
  })

  it('parses the recent throughput that newer servers send', () => {
    const history = {
      since: '2026-11-23T14:00:00Z',
      step: 5,
      registries: [{ registry: 'r', bytesPerSec: [1, null, 'x', 4], downloadedBytes: 25 }],
    }
    expect(parseThroughput(history)).toEqual({
      since: Date.UTC(2026, 10, 23, 14),
      stepMs: 5000,
      completed: undefined,
      failed: 0,
      canceled: 0,
      downloadedBytes: 0,
      registries: [{ registry: 'r', bytesPerSec: [1, 0, 0, 4], downloadedBytes: 25 }],
    })
    expect(() => parseThroughput('<html>')).toThrow(WireError)
  })
})

it('parses earlier attempts, and replaces an unrecognised reason with unknown', () => {
  const at = new Date(T0).toISOString()
  const pull = parsePull({
    ...(golden('event-progress') as { pull: object }).pull,
    failingSince: at,
    earlierAttempts: [{ attempt: 1, completedAt: at, errorReason: 'odd' }],
  })
  expect(pull.failingSince).toBe(T0)
  expect(pull.earlier).toEqual([
    {
      attempt: 1,
      completedAt: T0,
      startedAt: undefined,
      errorReason: 'unknown',
      error: undefined,
      percent: 0,
    },
  ])
  expect(parsePull((golden('event-progress') as { pull: object }).pull).earlier).toEqual([])
})

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  parseHello,
  parseNodeList,
  parsePodList,
  parsePull,
  parsePullEvent,
  parsePullList,
  WireError,
} from './wire'

function golden(name: string): unknown {
  return JSON.parse(readFileSync(join(import.meta.dirname, '../../tests/contract', `${name}.json`), 'utf8'))
}

function pullOf(name: string) {
  const event = parsePullEvent(golden(name))
  if (event.kind !== 'changed') throw new Error(`${name} removes a pull`)
  return event.pull
}

describe('the golden JSON shared with the server', () => {
  it('says hello', () => {
    expect(parseHello(golden('hello'))).toEqual({
      version: '0.2.0',
      bootId: '7c0f2a9b',
      time: Date.UTC(2026, 10, 23, 14, 2, 45),
    })
  })

  it('tells of progress with layers and pods', () => {
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

  it('tells of a start of which nothing is known', () => {
    expect(pullOf('event-started')).toMatchObject({
      imageRef: '__pulling__',
      totalKnown: false,
      pods: [],
      layers: undefined,
    })
  })

  it('tells of an end and of a failure', () => {
    expect(pullOf('event-completed')).toMatchObject({ status: 'completed', percent: 100 })
    expect(pullOf('event-failed')).toMatchObject({
      status: 'failed',
      errorReason: 'unauthorized',
      attempt: 4,
    })
  })

  it('tells of a removal', () => {
    expect(parsePullEvent(golden('event-removed'))).toMatchObject({
      kind: 'removed',
      id: 'worker-02.nginx.1',
    })
  })

  it('lists pulls, and throws at a list that is none', () => {
    const { pull } = golden('event-progress') as { pull: unknown }
    expect(parsePullList({ pulls: [pull] })).toEqual([parsePull(pull)])
    expect(parsePullList({ pulls: [] })).toEqual([])
    expect(() => parsePullList('<html>')).toThrow(WireError)
  })

  it('lists nodes and pods', () => {
    expect(parseNodeList(golden('nodes')).nodes.map(node => node.state)).toEqual(['reporting', 'lost'])
    const { pods, watching } = parsePodList(golden('pods'))
    expect(watching).toBe(true)
    expect(pods[0]?.containers.map(one => [one.kind, one.state])).toEqual([
      ['init', 'completed'],
      ['app', 'downloading'],
    ])
  })
})

describe('what is not as expected', () => {
  const least = { id: 'a', nodeName: 'n', imageRef: 'i', startedAt: '2026-11-23T14:00:00Z' }

  it('is ignored when it is an unknown field', () => {
    expect(parsePull({ ...least, future: { a: 1 } }).id).toBe('a')
  })

  it('is a default when it is left out', () => {
    expect(parsePull(least)).toMatchObject({
      status: 'downloading',
      attempt: 1,
      percent: 0,
      pods: [],
      layers: undefined,
    })
  })

  it('is told from the rest when the status is a newer one', () => {
    expect(parsePull({ ...least, status: 'mounting' }).status).toBe('downloading')
    expect(parsePull({ ...least, status: 'mounting', error: 'x' }).status).toBe('failed')
    expect(parsePull({ ...least, completedAt: '2026-11-23T14:00:01Z' }).status).toBe('completed')
  })

  it('is an unknown reason when the reason is a newer one', () => {
    expect(parsePull({ ...least, errorReason: 'quota' }).errorReason).toBe('unknown')
  })

  it.each([
    ['not an object', null, 'pull'],
    ['an array', [], 'pull'],
    ['no id', { ...least, id: undefined }, 'id'],
    ['a number for a name', { ...least, nodeName: 5 }, 'nodeName'],
    ['no time', { ...least, startedAt: 'yesterday' }, 'startedAt'],
    ['layers that are no list', { ...least, layers: {} }, 'layers'],
  ])('is refused with the name of the field: %s', (_, value, field) => {
    expect(() => parsePull(value)).toThrow(WireError)
    expect(() => parsePull(value)).toThrow(field)
  })

  it('is no number when it is not finite', () => {
    expect(parsePull({ ...least, percent: Number.NaN, etaSeconds: 'soon' })).toMatchObject({
      percent: 0,
      etaSeconds: undefined,
    })
  })
})

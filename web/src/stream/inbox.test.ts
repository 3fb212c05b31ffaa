import { expect, it, vi } from 'vitest'
import { Inbox } from './inbox'

const event = (id: string, percent = 0) =>
  JSON.stringify({
    schemaVersion: 'v1',
    timestamp: '2026-11-23T14:00:00Z',
    type: 'pull.progress',
    nodeName: 'n',
    pull: { id, nodeName: 'n', imageRef: 'i', startedAt: '2026-11-23T14:00:00Z', percent },
  })
const removed = (id: string) =>
  JSON.stringify({ timestamp: '2026-11-23T14:00:00Z', type: 'pull.removed', nodeName: 'n', pull: { id } })

it('keeps the newest event of each pull', () => {
  const inbox = new Inbox()
  for (let percent = 0; percent < 100; percent += 1) inbox.put(event('a', percent))
  inbox.put(event('b'))
  inbox.put(removed('b'))
  expect(inbox.take(99)).toMatchObject([
    { kind: 'changed', pull: { id: 'a', percent: 99 } },
    { kind: 'removed', id: 'b' },
  ])
  expect(inbox.size).toBe(0)
})

it('returns at most as many events as requested, and the rest on the next call', () => {
  const inbox = new Inbox()
  for (const id of ['a', 'b', 'c', 'd', 'e']) inbox.put(event(id))
  expect(inbox.take(2)).toHaveLength(2)
  expect(inbox.size).toBe(3)
  expect(inbox.take(9)).toHaveLength(3)
  expect(inbox.size).toBe(0)
})

it('knows when the whole state has been removed, even if changes keep arriving', () => {
  const inbox = new Inbox()
  inbox.reset(3)
  expect(inbox.isPart).toBe(true)
  for (const id of ['a', 'b']) inbox.put(event(id))
  inbox.take(9)
  expect(inbox.isPart).toBe(true)
  for (const id of ['c', 'a', 'b', 'c']) inbox.put(event(id, 5))
  expect(inbox.take(1)).toMatchObject([{ pull: { id: 'c' } }])
  expect([inbox.isPart, inbox.size]).toEqual([false, 2])
  inbox.reset()
  expect([inbox.isPart, inbox.size]).toEqual([false, 0])
})

it('continues after an event that cannot be parsed', () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => {})
  const inbox = new Inbox()
  inbox.put('{not json')
  inbox.put('{"type":"pull.progress","timestamp":"now"}')
  inbox.put(event('a'))
  expect(inbox.take(99)).toHaveLength(1)
  expect(inbox.unparsed).toBe(2)
  expect(warn).toHaveBeenCalledOnce()
})

it('does not mistake a name for an id', () => {
  const inbox = new Inbox()
  inbox.put(event('a').replace('"nodeName":"n"', String.raw`"nodeName":"\"pull\":{\"id\":\"b\""`))
  inbox.put(event('b'))
  expect(inbox.take(99)).toHaveLength(2)
})

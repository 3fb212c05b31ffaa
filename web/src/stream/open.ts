/** Starts the worker that holds the stream. */
import type { WorkerEvent, WorkerRequest } from './protocol'

export interface OpenedStream {
  readonly worker: Worker
  /** The events that arrived before the page was ready to handle them. */
  readonly early: readonly WorkerEvent[]
  /** Resolves when the stream is connecting, or when the worker takes too long to start. */
  readonly started: Promise<unknown>
}

/** The browser needs the main thread to start a worker, so drawing the page first would delay the stream. */
const START_MS = 60

/** `base` is the address of the page, including any path prefix. */
export function openStream(base: string): OpenedStream {
  const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' })
  const early: WorkerEvent[] = []
  const started = new Promise<unknown>(resolve => {
    setTimeout(resolve, START_MS)
    worker.onmessage = ({ data }: MessageEvent<WorkerEvent>) => resolve(early.push(data))
  })
  const open: WorkerRequest = { kind: 'open', base }
  worker.postMessage(open)
  return { worker, early, started }
}

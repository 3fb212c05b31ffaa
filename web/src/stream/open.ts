/** Starts the worker that receives the stream. */
import type { WorkerEvent, WorkerRequest } from './protocol'

export interface OpenedStream {
  readonly worker: Worker
  /** The events that arrived before the page was ready to handle them. */
  readonly early: readonly WorkerEvent[]
}

/** `base` is the URL of the page, including any path prefix. */
export function openStream(base: string): OpenedStream {
  const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' })
  const early: WorkerEvent[] = []
  worker.onmessage = ({ data }: MessageEvent<WorkerEvent>) => early.push(data)
  const open: WorkerRequest = { kind: 'open', base }
  worker.postMessage(open)
  return { worker, early }
}

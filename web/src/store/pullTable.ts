/** The newest state of every pull that the server has sent. Changes are held back until `commit`. */
import { pullState } from '../model/pullState'
import type { Pull, PullEvent } from '../wire/wire'

export class PullTable {
  readonly #pulls = new Map<string, Pull>()
  readonly #pending = new Map<string, Pull | undefined>()
  #replace = false
  #wanted: ReadonlySet<string> = new Set()
  #shape = 0

  get pulls(): ReadonlyMap<string, Pull> {
    return this.#pulls
  }

  /** Increases when a pull appears, disappears, or changes in a way that affects filters or groups, but not when
   * only bytes change. */
  get shape(): number {
    return this.#shape
  }

  /** Whether there has been a reset since the last commit. */
  get isReplaced(): boolean {
    return this.#replace
  }

  /** There is at most one pending change for each pull, even if the next commit is late. */
  apply(event: PullEvent): void {
    if (event.kind === 'removed') this.#pending.set(event.id, undefined)
    else this.#pending.set(event.pull.id, event.pull)
  }

  /** The next commit replaces all pulls, and includes only events that arrive after this call. */
  reset(): void {
    this.#pending.clear()
    this.#replace = true
  }

  /** Replaces all pulls in the table with the given ones. */
  replaceBy(pulls: readonly Pull[]): void {
    this.reset()
    for (const pull of pulls) this.#pending.set(pull.id, pull)
  }

  /** From now on, layers are kept only for these pulls. */
  wantLayers(ids: readonly string[]): void {
    this.#wanted = new Set(ids)
    for (const pull of this.#pulls.values()) {
      if (pull.layers !== undefined && !this.#wanted.has(pull.id))
        this.#pulls.set(pull.id, withLayers(pull, undefined))
    }
  }

  /** The layers of a pull that were requested separately from the stream, possibly none; the stream's own
   * layers are newer. */
  offerLayers(offered: Pull): void {
    const known = this.#pending.get(offered.id) ?? this.#pulls.get(offered.id)
    if (known === undefined || known.layers !== undefined || !this.#wanted.has(offered.id)) return
    this.#pending.set(offered.id, withLayers(known, offered.layers ?? []))
  }

  /** Applies the pending changes; returns true if there were any. */
  commit(): boolean {
    if (this.#pending.size === 0 && !this.#replace) return false
    if (this.#replace) {
      for (const id of this.#pulls.keys()) {
        if (!this.#pending.has(id)) this.#remove(id)
      }
      this.#replace = false
    }
    for (const [id, pull] of this.#pending) {
      if (pull === undefined) this.#remove(id)
      else this.#put(pull)
    }
    this.#pending.clear()
    return true
  }

  #remove(id: string): void {
    if (this.#pulls.delete(id)) this.#shape += 1
  }

  #put(pull: Pull): void {
    const before = this.#pulls.get(pull.id)
    if (before === undefined || shapeDiffers(before, pull)) this.#shape += 1
    const wanted = this.#wanted.has(pull.id)
    // A new attempt has no layers yet; the known layers belong to the previous attempt.
    const known = before === undefined || before.attempt === pull.attempt ? before?.layers : []
    if (wanted && pull.layers === undefined) this.#pulls.set(pull.id, withLayers(pull, known))
    else if (!wanted && pull.layers !== undefined) this.#pulls.set(pull.id, withLayers(pull, undefined))
    else this.#pulls.set(pull.id, pull)
  }
}

function withLayers(pull: Pull, layers: Pull['layers']): Pull {
  return pull.layers === layers ? pull : { ...pull, layers }
}

function shapeDiffers(before: Pull, after: Pull): boolean {
  return (
    pullState(before) !== pullState(after) ||
    before.imageRef !== after.imageRef ||
    before.attempt !== after.attempt ||
    before.errorReason !== after.errorReason ||
    before.pods.length !== after.pods.length
  )
}

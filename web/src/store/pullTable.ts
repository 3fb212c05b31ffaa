/** The latest state that the server has sent for each pull. Changes become visible only at the next `commit`. */
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

  /** A counter that is incremented whenever a pull appears or disappears, or changes in a way that affects filters or
   * groups. A change in a pull's byte count alone does not increment the counter. */
  get shape(): number {
    return this.#shape
  }

  /** Whether a reset has occurred since the last commit. */
  get isReplaced(): boolean {
    return this.#replace
  }

  /** Keeps at most one pending change per pull, even if the next commit is late. */
  apply(event: PullEvent): void {
    if (event.kind === 'removed') this.#pending.set(event.id, undefined)
    else this.#pending.set(event.pull.id, event.pull)
  }

  /** Starts collecting a new list of pulls. The next commit replaces all pulls with this list. */
  reset(): void {
    this.#pending.clear()
    this.#replace = true
  }

  /** Replaces all pulls in the table with the given ones at the next commit. */
  replaceBy(pulls: readonly Pull[]): void {
    this.reset()
    for (const pull of pulls) this.#pending.set(pull.id, pull)
  }

  /** Keeps the layers of these pulls, and drops the layers of all other pulls. */
  wantLayers(ids: readonly string[]): void {
    this.#wanted = new Set(ids)
    for (const pull of this.#pulls.values()) {
      if (pull.layers !== undefined && !this.#wanted.has(pull.id))
        this.#pulls.set(pull.id, withLayers(pull, undefined))
    }
  }

  /** Accepts a pull's layers that were requested separately from the stream. These layers are ignored if the stream has
   * already sent newer ones. */
  offerLayers(offered: Pull): void {
    const known = this.#pending.get(offered.id) ?? this.#pulls.get(offered.id)
    if (known === undefined || known.layers !== undefined || !this.#wanted.has(offered.id)) return
    this.#pending.set(offered.id, withLayers(known, offered.layers ?? []))
  }

  /** Applies the pending changes; returns whether there were any. */
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
    // A new attempt has no layers yet: the known layers belong to the previous attempt.
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

import { AsyncLocalStorage } from 'node:async_hooks'
import type { Dimensions } from '@tokentally/core'

/** What a request, or a piece of work, has used so far. */
export interface UsageSoFar {
  readonly calls: number
  readonly inputTokens: number
  readonly outputTokens: number
}

/**
 * Whom the calls made in here are for. It follows the code through `await`, timers, streams and event
 * emitters by `AsyncLocalStorage`; a listener runs in the context of whoever emits.
 */
export class CallContext {
  readonly #parent: CallContext | undefined
  readonly #resolve: () => Dimensions
  readonly #late: (() => Dimensions) | undefined
  #resolved: Dimensions | undefined
  #added: Dimensions | undefined
  #calls = 0
  #inputTokens = 0
  #outputTokens = 0

  /**
   * @param resolve called when the first LLM call is made in here, and never without one
   * @param late called for every call: what may become known only while the work goes on, such as the route;
   *   what `resolve` says goes before it
   */
  constructor(parent: CallContext | undefined, resolve: () => Dimensions, late?: () => Dimensions) {
    this.#parent = parent
    this.#resolve = resolve
    this.#late = late
  }

  /** The dimensions now: those of the surroundings, then our own, then what was added later. */
  get dimensions(): Dimensions {
    this.#resolved ??= this.#resolve()
    const outer = this.#parent?.dimensions ?? {}
    const around = this.#late === undefined ? outer : merge(outer, this.#late())
    return merge(merge(around, this.#resolved), this.#added ?? {})
  }

  /** Adds dimensions; they hold for every call that is not finished yet. */
  add(dimensions: Dimensions): void {
    this.#added = merge(this.#added ?? {}, dimensions)
  }

  get usage(): UsageSoFar {
    return { calls: this.#calls, inputTokens: this.#inputTokens, outputTokens: this.#outputTokens }
  }

  /** Counts a finished call here and in all that surrounds. */
  count(inputTokens: number, outputTokens: number): void {
    this.#calls += 1
    this.#inputTokens += inputTokens
    this.#outputTokens += outputTokens
    this.#parent?.count(inputTokens, outputTokens)
  }
}

const storage = new AsyncLocalStorage<CallContext>()

export function currentContext(): CallContext | undefined {
  return storage.getStore()
}

/** Runs `work` in a context of its own inside the current one. */
export function runInContext<T>(context: CallContext, work: () => T): T {
  return storage.run(context, work)
}

/**
 * Runs `work` with further dimensions for every LLM call that it makes, also after an `await`. Nested calls
 * add up; the innermost value of a dimension wins, tags are merged.
 */
export function attribute<T>(dimensions: Dimensions, work: () => T): T {
  return storage.run(new CallContext(storage.getStore(), () => dimensions), work)
}

function merge(outer: Dimensions, inner: Dimensions): Dimensions {
  if (outer.tags === undefined || inner.tags === undefined) return { ...outer, ...inner }
  return { ...outer, ...inner, tags: { ...outer.tags, ...inner.tags } }
}

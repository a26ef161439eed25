import type { ReadUsage } from '@tokentally/providers'
import type { WrittenText } from './text-counts.ts'

/** A call whose answer is made in the background. */
export interface PendingCall {
  /** The answer was fetched. @param answer its text, for an estimate */
  settle(usage: ReadUsage, answer: WrittenText): void
  /** Its answer will not be awaited any longer. */
  forget(): void
}

/** Background answers are seldom; beyond this many, the oldest is not awaited any longer. */
const PENDING_MAX = 1_000

/**
 * Calls that the provider answers in the background, from the exchange that started them to the first one that
 * brings their usage, by the provider's id of the answer. The event is the call's own, made once: whatever is
 * fetched again, or was asked for by another process, finds nothing here and is not counted.
 */
export class PendingCalls {
  readonly #calls = new Map<string, PendingCall>()

  add(responseId: string, call: PendingCall): void {
    this.#calls.set(responseId, call)
    if (this.#calls.size <= PENDING_MAX) return
    for (const [oldest, forgotten] of this.#calls) {
      this.#calls.delete(oldest)
      forgotten.forget()
      return
    }
  }

  /** @returns the call whose answer this is, the first time it is asked for */
  take(responseId: string): PendingCall | undefined {
    const call = this.#calls.get(responseId)
    this.#calls.delete(responseId)
    return call
  }
}

/** Shared by all taps: the answer may be fetched through another one. */
export const pendingCalls = new PendingCalls()

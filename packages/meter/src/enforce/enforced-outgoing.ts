import type { RecognizedCall } from '@tokentally/providers'
import type { BudgetExceededError } from './budget-exceeded-error.ts'
import type { Enforcer } from './enforcer.ts'

/**
 * Decides about a call whose body is written piece by piece (`node:http`, `node:http2`): at once where the body does
 * not matter, else when it is whole. Until then nothing of it should go out.
 */
export class OutgoingGate {
  readonly #enforcer: Enforcer
  readonly #call: RecognizedCall
  readonly #refuse: (error: BudgetExceededError) => void
  readonly #inContext: <T>(work: () => T) => T
  /** Runs what makes the call's event. */
  run: <T>(work: () => T) => T = (work) => work()
  isDecided = false
  isRefused = false

  /**
   * @param refuse ends the request with the error; called once
   * @param inContext the context of whoever makes the call
   */
  constructor(
    enforcer: Enforcer,
    call: RecognizedCall,
    refuse: (error: BudgetExceededError) => void,
    inContext: <T>(work: () => T) => T,
  ) {
    this.#enforcer = enforcer
    this.#call = call
    this.#refuse = refuse
    this.#inContext = inContext
    if (!enforcer.needsBody(call)) this.decide(undefined, false)
  }

  /** @returns the body to send instead */
  decide(bodyText: string | undefined, isReplaceable: boolean): string | undefined {
    if (this.isDecided) return undefined
    this.isDecided = true
    const verdict = this.#inContext(() => this.#enforcer.judge(this.#call, bodyText, isReplaceable))
    if (verdict.kind === 'refused') {
      this.isRefused = true
      // Once the application listens: it has not been given the request yet, or is writing to it.
      process.nextTick(this.#refuse, verdict.error)
    }
    if (verdict.kind !== 'downgraded') return undefined
    this.run = verdict.run
    return verdict.body
  }
}

import { createReader, type RecognizedCall } from '@tokentally/providers'
import type { CallDependencies } from '../call.ts'
import { CallContext, currentContext, runInContext } from '../context.ts'
import { markScopes } from '../metered-calls.ts'
import { BudgetExceededError } from './budget-exceeded-error.ts'
import { CallRate } from './call-rate.ts'
import type { Decision, Snapshot } from './decision.ts'
import { type CallSubject, DecisionTable, valueIn } from './decision-table.ts'
import { bodyFor, fits, isModelInBody, isOneOf } from './downgrade.ts'

/** What holds while the service cannot be asked: calls go through, or fail. */
export type WhenUnavailable = 'open' | 'closed'

/** The tag on the events of calls that were given a cheaper model; its value is the model that was asked for. */
export const DOWNGRADED_FROM = 'tokentally.downgraded_from'

/** What becomes of a call. */
export type Verdict =
  | { readonly kind: 'go' }
  | { readonly kind: 'refused'; readonly error: BudgetExceededError }
  | {
      readonly kind: 'downgraded'
      /** The body to send instead. */
      readonly body: string
      /** Runs `work` such that the call's event says which model was asked for. */
      readonly run: <T>(work: () => T) => T
    }

export interface EnforcerOptions {
  readonly whenUnavailable: WhenUnavailable
  /** Whether the snapshot is the service's latest. */
  readonly isFresh: () => boolean
  readonly now: () => number
  /** Monotonic milliseconds. */
  readonly elapsed: () => number
  readonly defaults: CallDependencies['defaults']
  readonly onError: (error: unknown) => void
}

const GO: Verdict = { kind: 'go' }
/** Where no end of a limit is known: a top-up may come at any time. */
const RETRY_AFTER_S = 60
/** While the service is away: it is tried again every few seconds. */
const RETRY_UNAVAILABLE_S = 5

/**
 * Decides about a call before it leaves the process, on what the service said last. In this order: a `block` in any
 * scope of the call refuses it; then each `rate_limit`; then `downgrade`, which from all models leaves those that it
 * names: another one is replaced by the first of them that the provider serves, or refused where that cannot be.
 *
 * Without the service, what was decided before holds on until its `until`; beyond that, calls go through (`open`)
 * or fail (`closed`). Whatever goes wrong in here lets the call through.
 */
export class Enforcer {
  readonly #options: EnforcerOptions
  #table = new DecisionTable([])
  #rates = new Map<string, CallRate>()
  #isUnknownReported = false

  constructor(options: EnforcerOptions) {
    this.#options = options
  }

  /** Takes a new snapshot in place of the last one. */
  update({ decisions, unknown }: Snapshot): void {
    this.#table = new DecisionTable(decisions)
    if (this.#rates.size > 0) this.#forgetRates(decisions)
    if (unknown > 0 && !this.#isUnknownReported) {
      this.#isUnknownReported = true
      this.#options.onError(new Error('the service decides what this version of the meter does not know'))
    }
  }

  #forgetRates(decisions: readonly Decision[]): void {
    const limited = new Set(decisions.map((decision) => nameOf(decision)))
    for (const key of this.#rates.keys()) {
      if (!limited.has(key.slice(0, key.indexOf('\n')))) this.#rates.delete(key)
    }
  }

  /** Whether a call's body has to be read before it can be decided about. */
  needsBody(call: RecognizedCall): boolean {
    return this.#table.looksAtModel && !isFree(call)
  }

  /**
   * Decides about a call; to be asked once for each, since it counts.
   *
   * @param bodyText undefined where there is none, or not as text
   * @param isReplaceable whether another body could be sent
   */
  judge(call: RecognizedCall, bodyText: string | undefined, isReplaceable: boolean): Verdict {
    try {
      if (isFree(call)) return GO
      const verdict = this.#judge(call, bodyText, isReplaceable)
      // Whoever sees the call from above must not make an event of it: it was none.
      if (verdict.kind === 'refused') markScopes(call.operation)
      return verdict
    } catch (error) {
      this.#options.onError(error)
      return GO
    }
  }

  /**
   * What refuses a call as seen from above, by an adapter: nothing is counted, and no model replaced, since a tap
   * further down may be asked as well.
   */
  refusalOf(call: {
    readonly provider: string
    readonly model: string | undefined
  }): BudgetExceededError | undefined {
    try {
      const decisions = this.#matching(call.provider, call.model)
      const block = decisions.find(({ action }) => action === 'block')
      if (block !== undefined) return this.#refuse(block)
      return this.#unavailable()
    } catch (error) {
      this.#options.onError(error)
      return undefined
    }
  }

  #judge(call: RecognizedCall, bodyText: string | undefined, isReplaceable: boolean): Verdict {
    const unavailable = this.#unavailable()
    if (this.#table.isEmpty) return unavailable === undefined ? GO : { kind: 'refused', error: unavailable }
    const model = this.#table.looksAtModel ? modelOf(call, bodyText) : call.model
    const decisions = this.#matching(call.provider, model)
    let limits: Decision[] | undefined
    let downgrades: Decision[] | undefined
    for (const decision of decisions) {
      if (decision.action === 'block') return { kind: 'refused', error: this.#refuse(decision) }
      if (decision.action === 'rate_limit') limits = [...(limits ?? []), decision]
      else downgrades = [...(downgrades ?? []), decision]
    }
    if (unavailable !== undefined) return { kind: 'refused', error: unavailable }
    // Refused calls must not use up the rate, so the models come first.
    const downgraded = downgrades && this.#downgrade(downgrades, call, { model, bodyText, isReplaceable })
    if (downgraded?.kind === 'refused') return downgraded
    const limited = limits && this.#limit(limits, this.#subject(call.provider, model))
    return limited ?? downgraded ?? GO
  }

  #unavailable(): BudgetExceededError | undefined {
    const { whenUnavailable, isFresh } = this.#options
    if (whenUnavailable === 'open' || isFresh()) return undefined
    return new BudgetExceededError({
      code: 'decisions_unavailable',
      action: 'block',
      scope: {},
      budget: null,
      detail: 'The service that decides on budgets cannot be reached, and calls are not made without it.',
      until: null,
      retryAfterS: RETRY_UNAVAILABLE_S,
    })
  }

  #matching(provider: string, model: string | undefined): readonly Decision[] {
    return this.#table.matching(this.#subject(provider, model), this.#options.now())
  }

  #subject(provider: string, model: string | undefined): CallSubject {
    const defaults = this.#options.defaults()
    const own = currentContext()?.dimensions
    const dimensions = own === undefined ? defaults : { ...defaults, ...own }
    return { dimensions, provider, model }
  }

  /** One call within every limit, or none counted. */
  #limit(limits: readonly Decision[], subject: CallSubject): Verdict | undefined {
    const elapsed = this.#options.elapsed()
    const rates: CallRate[] = []
    for (const decision of limits) {
      const rate = this.#rateOf(decision, subject)
      const waitMs = rate.waitMs(elapsed, decision.requestsPerMinute ?? 0)
      if (waitMs > 0) return { kind: 'refused', error: this.#refuse(decision, Math.ceil(waitMs / 1_000)) }
      rates.push(rate)
    }
    for (const rate of rates) rate.count(elapsed)
    return undefined
  }

  #rateOf(decision: Decision, subject: CallSubject): CallRate {
    const values = Object.keys(decision.scope).map((dimension) => valueIn(dimension, subject))
    const key = `${nameOf(decision)}\n${JSON.stringify(values)}`
    let rate = this.#rates.get(key)
    if (rate === undefined) {
      rate = new CallRate()
      this.#rates.set(key, rate)
    }
    return rate
  }

  #downgrade(
    downgrades: readonly Decision[],
    call: RecognizedCall,
    { model, bodyText, isReplaceable }: Asked,
  ): Verdict | undefined {
    const [first] = downgrades
    if (first === undefined) return undefined
    if (model !== undefined && downgrades.every(({ models }) => isOneOf(models, model))) return undefined
    if (model !== undefined && bodyText !== undefined && isReplaceable && isModelInBody(call)) {
      const cheaper = first.models.find(
        (other) =>
          fits(call, model, other) &&
          downgrades.every(({ models }) => isOneOf(models, other)) &&
          !this.#matching(call.provider, other).some(({ action }) => action === 'block'),
      )
      const body = cheaper === undefined ? undefined : bodyFor(bodyText, model, cheaper)
      if (body !== undefined) return { kind: 'downgraded', body, run: (work) => runDowngraded(model, work) }
    }
    return { kind: 'refused', error: this.#refuse(first) }
  }

  #refuse(decision: Decision, retryAfterS?: number): BudgetExceededError {
    const { action, scope, reason, budget, detail, untilMs } = decision
    const untilEndS = untilMs === null ? RETRY_AFTER_S : Math.ceil((untilMs - this.#options.now()) / 1_000)
    return new BudgetExceededError({
      code: reason,
      action,
      scope,
      budget,
      detail,
      until: untilMs === null ? null : new Date(untilMs),
      retryAfterS: Math.max(1, retryAfterS ?? untilEndS),
    })
  }
}

interface Asked {
  readonly model: string | undefined
  readonly bodyText: string | undefined
  readonly isReplaceable: boolean
}

/** The same decision in the next snapshot. */
function nameOf({ budget, scope }: Decision): string {
  return `${budget?.id ?? ''} ${JSON.stringify(scope)}`
}

/** Fetching what was made before costs nothing. */
function isFree({ operation }: RecognizedCall): boolean {
  return operation === 'fetch_response' || operation === 'fetch_batch'
}

function modelOf(call: RecognizedCall, bodyText: string | undefined): string | undefined {
  return createReader(call, { bodyText, injectStreamUsage: false }).requestedModel
}

function runDowngraded<T>(from: string, work: () => T): T {
  return runInContext(new CallContext(currentContext(), () => ({ tags: { [DOWNGRADED_FROM]: from } })), work)
}

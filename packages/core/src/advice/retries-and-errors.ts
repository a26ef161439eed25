import { type Decimal, ZERO } from '../money/decimal.ts'
import { catalogueProvider } from '../pricing/provider-aliases.ts'
import type { AdviceScope } from './call-group.ts'
import type { Finding } from './finding.ts'

/** Calls that were paid for and brought nothing: left before their end, or tried again. As sums of one day. */
export interface WastedCalls {
  readonly scope: AdviceScope
  readonly provider: string
  /** As the calls name it; null: none. */
  readonly model: string | null
  readonly calls: number
  /** As it stands in the ledger. */
  readonly listCostUsd: Decimal
}

/** What would be saved if these calls had not been made. Calls of status `error` cost nothing and are not among them. */
export function retriesAndErrors(wasted: WastedCalls): readonly Finding[] {
  return [
    {
      kind: 'retries_and_errors',
      scope: wasted.scope,
      subject: { provider: catalogueProvider(wasted.provider), model: wasted.model ?? '' },
      calledAs: { provider: wasted.provider, model: wasted.model },
      alternative: {
        note: 'Find out why answers are left or asked for again: time limits, retries, users who stop.',
      },
      events: wasted.calls,
      currentUsd: wasted.listCostUsd,
      alternativeUsd: ZERO,
      priceVersionIds: [],
      isGuess: false,
    },
  ]
}

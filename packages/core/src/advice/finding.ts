import type { Decimal } from '../money/decimal.ts'
import type { PriceBook } from '../pricing/price-book.ts'
import type { PriceVersion } from '../pricing/price-version.ts'
import type { AdviceScope } from './call-group.ts'
import type { ModelAlternatives } from './model-alternatives.ts'

/** What advice is about. */
export const ADVICE_KINDS = [
  'cheaper_model',
  'prompt_caching',
  'batch_eligible',
  'cheaper_provider',
  'service_tier',
  'retries_and_errors',
  'idle_commitment',
] as const
export type AdviceKind = (typeof ADVICE_KINDS)[number]

/** What the calls use now. */
export interface AdviceSubject {
  readonly provider: string
  readonly model: string
  readonly serviceTier?: string
}

/** What is proposed instead; all fields absent: to do without. */
export interface AdviceAlternative {
  readonly provider?: string
  readonly model?: string
  readonly serviceTier?: string
  readonly note?: string
}

/** The provider and the model as the calls name them. */
export interface CalledAs {
  readonly provider: string
  readonly model: string | null
}

/** What one proposal would have saved on the calls of one group. */
export interface Finding {
  readonly kind: AdviceKind
  readonly scope: AdviceScope
  readonly subject: AdviceSubject
  readonly alternative: AdviceAlternative
  readonly calledAs: CalledAs
  /** Calls that it rests on. */
  readonly events: number
  /** What these calls cost as they are, US dollars, and what they would cost by the proposal. */
  readonly currentUsd: Decimal
  readonly alternativeUsd: Decimal
  /** Ids of the versions that both were priced by. */
  readonly priceVersionIds: readonly string[]
  /** Something is assumed about the calls that events cannot tell; such advice is never of high confidence. */
  readonly isGuess: boolean
}

/** What rules look things up in. */
export interface AdviceContext {
  readonly organizationId: string
  readonly book: PriceBook
  /** The moment whose prices are compared, UTC milliseconds. */
  readonly atMs: number
  readonly alternatives: ModelAlternatives
  /** Hosts of each model, by `hostlessModel`. */
  readonly hosts: ReadonlyMap<string, readonly PriceVersion[]>
}

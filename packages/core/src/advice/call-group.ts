import type { Quantities } from '../usage/meters.ts'

/** Whom advice is for: the first of these that a call names, so that no call is counted for two. */
export const ADVICE_SCOPES = ['feature', 'team', 'customer', 'organization'] as const
export type AdviceScopeDimension = (typeof ADVICE_SCOPES)[number]

export interface AdviceScope {
  readonly dimension: AdviceScopeDimension
  /** Null for the organization itself. */
  readonly value: string | null
}

/**
 * Whether somebody waited for the answers. `tagged`: the tag `waiting` says `no`. `guessed`: nothing was streamed,
 * no user, conversation or route is named. `yes`: all others.
 */
export type Waiting = 'yes' | 'guessed' | 'tagged'

/** Calls of one day that are alike in everything that a price may ask of them, as sums. */
export interface CallGroup {
  readonly scope: AdviceScope
  readonly provider: string
  readonly model?: string
  readonly responseModel?: string
  readonly operation: string
  readonly serviceTier?: string
  readonly region?: string
  /** Only where the organization has prices for this customer. */
  readonly customer?: string
  /** A size of request between the same steps of every price as each call of the group. */
  readonly inputTokens: number
  /** Every call had at most `SMALL_INPUT_TOKENS` of input and `SMALL_OUTPUT_TOKENS` of output. */
  readonly isSmall: boolean
  readonly waiting: Waiting
  readonly calls: number
  /** Calls that count no requests themselves: a price for each request is due for these. */
  readonly requests: number
  /** Sums over the calls, by meter. */
  readonly quantities: Quantities
}

/** What counts as a small call: about three pages in, one page out. */
export const SMALL_INPUT_TOKENS = 2_000
export const SMALL_OUTPUT_TOKENS = 500

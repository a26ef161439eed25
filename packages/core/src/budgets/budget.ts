/**
 * What can be limited: everything, or what carries a value in one dimension. `api_key` is the id of the key that
 * sent the usage; tags are `tag.NAME`.
 */
export type BudgetDimension =
  | 'organization'
  | 'business_unit'
  | 'cost_center'
  | 'team'
  | 'project'
  | 'customer'
  | 'user'
  | 'feature'
  | 'agent'
  | 'environment'
  | 'provider'
  | 'model'
  | 'api_key'
  | `tag.${string}`

/** One thing that is limited. */
export interface BudgetScope {
  readonly dimension: BudgetDimension
  /** Null for the organization; `*` stands for every value, each with its own limit. */
  readonly value: string | null
}

/** What happens when the limit is reached. */
export type Enforcement = 'notify' | 'rate_limit' | 'downgrade' | 'block'

/** A range of the ledger. Nothing is ever reset: the next period is the next range. */
export interface BudgetPeriod {
  /** UTC milliseconds, included. */
  readonly startMs: number
  /** UTC milliseconds, excluded. */
  readonly endMs: number
}

/** How one budget stands for one value of its scope in one period. */
export interface BudgetStatus {
  readonly organizationId: string
  readonly budgetId: string
  readonly budgetName: string
  /** With a value, never `*`. */
  readonly scope: BudgetScope
  readonly period: BudgetPeriod
  /** IANA name of the zone that the period is cut in. */
  readonly timeZone: string
  /** Whether list or sell costs count. */
  readonly basis: 'list' | 'sell'
  /** US dollars, exact decimal text, with what rolled over. */
  readonly limitUsd: string
  /** US dollars, exact decimal text: the sum of the ledger over the period. */
  readonly spentUsd: string
  /** Percentages of the limit that raise an alert, ascending. */
  readonly thresholds: readonly number[]
  /** Percentages of the limit that raise an alert when they are expected by the period's end, ascending. */
  readonly forecastThresholds: readonly number[]
  readonly enforcement: Enforcement
}

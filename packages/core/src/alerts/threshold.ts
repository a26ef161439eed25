import type { BudgetScope, BudgetStatus } from '../budgets/budget.ts'
import { decimal, decimalFromLiteral } from '../money/decimal.ts'

/**
 * The thresholds of a budget that its spending has reached, ascending. Exact: 90 % of a limit is reached by the
 * very micro-dollar that makes it 90 %. A limit of zero is passed by the first cost.
 */
export function reachedThresholds(
  status: Pick<BudgetStatus, 'limitUsd' | 'spentUsd' | 'thresholds'>,
): readonly number[] {
  const limit = decimal(status.limitUsd)
  const spent = decimal(status.spentUsd)
  if (spent.lte('0')) return []
  const hundredfold = spent.times('100')
  return status.thresholds
    .filter((threshold) => hundredfold.gte(limit.times(decimalFromLiteral(threshold))))
    .toSorted((one, other) => one - other)
}

/** Spent as percentage of the limit, rounded down to one decimal place; null for a limit of zero or less. */
export function percentSpent(status: Pick<BudgetStatus, 'limitUsd' | 'spentUsd'>): string | null {
  const limit = decimal(status.limitUsd)
  if (limit.lte('0')) return null
  return decimal(status.spentUsd).times('100').div(limit).round(1, 0).toFixed()
}

/** A scope as people write it: `organization`, `team:engineering`, `tag.plan:pro`. */
export function scopeText({ dimension, value }: BudgetScope): string {
  return value === null ? dimension : `${dimension}:${value}`
}

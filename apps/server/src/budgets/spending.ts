import { type BudgetDimension, type BudgetPeriod, type Decimal, decimal, ZERO } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { aggregate, dimensionOf } from '../reports/index.ts'

/** What one value of a dimension, or everything, cost in a range of the ledger. US dollars, exact. */
export interface Spending {
  readonly listUsd: Decimal
  readonly sellUsd: Decimal
}

export const NOTHING_SPENT: Spending = { listUsd: ZERO, sellUsd: ZERO }

/** The key of what is spent by everybody together. */
export const EVERYBODY = ''

/** What to sum up. */
export interface SpendingQuery {
  readonly organizationId: string
  readonly dimension: BudgetDimension
  readonly period: BudgetPeriod
  /** Only these values; undefined: all. */
  readonly values: readonly string[] | undefined
}

/**
 * The ledger's sums by value of a dimension; values without usage are missing. Exact up to the last committed
 * event: rollups, and the events that are in none yet. What carries no value counts for nobody.
 */
export async function spendingBy(
  database: Pool | PoolClient,
  { organizationId, dimension, period, values }: SpendingQuery,
): Promise<ReadonlyMap<string, Spending>> {
  const isTotal = dimension === 'organization'
  const reported = isTotal ? undefined : dimensionOf(dimension)
  if (!isTotal && reported === undefined) throw new Error(`no report knows the dimension ${dimension}`)
  const { groups } = await aggregate(database, {
    organizationId,
    ...period,
    groupBy: reported === undefined ? [] : [reported],
    granularity: undefined,
    timeZone: 'UTC',
    filters: reported === undefined || values === undefined ? [] : [{ dimension: reported, values }],
    withTotals: false,
  })
  return new Map(
    groups.flatMap((group): [string, Spending][] => {
      const value = isTotal ? EVERYBODY : group.keys[dimension]
      if (value === null || value === undefined) return []
      return [[value, { listUsd: decimal(group.list_cost), sellUsd: decimal(group.total_cost) }]]
    }),
  )
}

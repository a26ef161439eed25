import { type BudgetDimension, type BudgetStatus, type Decimal, ZERO } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { EVERYBODY } from '../spending.ts'
import { type HeldQuery, heldBy } from './hold-store.ts'

/** One value whose holds are asked for. */
export interface HeldScope {
  readonly dimension: BudgetDimension
  readonly value: string
  /** Settled holds count from here on. UTC milliseconds. */
  readonly settledFromMs: number
  readonly basis: 'list' | 'sell'
}

/** What holds reserve in each scope, in the order asked. US dollars. One statement, in one snapshot. */
export async function heldIn(
  database: Pool | PoolClient,
  organizationId: string,
  now: Date,
  scopes: readonly HeldScope[],
): Promise<readonly Decimal[]> {
  const queries = new Map<string, HeldQuery & { readonly values: string[] }>()
  for (const { dimension, value, settledFromMs } of scopes) {
    const key = `${dimension} ${settledFromMs}`
    const query = queries.get(key)
    if (query === undefined) queries.set(key, { dimension, values: [value], settledFromMs })
    else query.values.push(value)
  }
  const results = await heldBy(database, organizationId, now, [...queries.values()])
  const byKey = new Map([...queries.keys()].map((key, index) => [key, results[index]]))
  return scopes.map(({ dimension, value, settledFromMs, basis }) => {
    const held = byKey.get(`${dimension} ${settledFromMs}`)?.get(value)
    if (held === undefined) return ZERO
    return basis === 'list' ? held.listUsd : held.sellUsd
  })
}

/** The scope of a budget for one value, in its current period. */
export function heldScopeOf({ scope, period, basis }: BudgetStatus): HeldScope {
  return { dimension: scope.dimension, value: scope.value ?? EVERYBODY, settledFromMs: period.startMs, basis }
}

/** The scope of a customer's credit. */
export function heldScopeOfCredit(customer: string): HeldScope {
  return { dimension: 'customer', value: customer, settledFromMs: 0, basis: 'sell' }
}

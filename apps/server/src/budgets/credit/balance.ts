import { type Decimal, decimal, ZERO } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { z } from 'zod'
import { spendingBy } from '../spending.ts'

/** Tops an account up by itself. Amounts are US dollars, exact decimal text. */
export interface AutoRefill {
  /** Refills once the balance is below this. */
  readonly thresholdUsd: string
  readonly amountUsd: string
  /** Of a UTC month. */
  readonly maxPerMonth: number
}

/** A customer who pays ahead. */
export interface CreditAccount {
  readonly customer: string
  readonly startedAt: Date
  readonly autoRefill: AutoRefill | null
  /** Top-ups and adjustments together. */
  readonly paidInUsd: Decimal
  /** The sell cost of what the customer used since credit was switched on. */
  readonly usedUsd: Decimal
  /** What is left; below zero when calls that were under way cost more than was left. */
  readonly balanceUsd: Decimal
}

const accountRow = z.object({
  customer_id: z.string(),
  start_day: z.date(),
  used_before_usd: z.string(),
  started_at: z.date(),
  auto_refill: z.object({ threshold: z.string(), amount: z.string(), max_per_month: z.number() }).nullable(),
  paid_in_usd: z.string(),
})

const ACCOUNTS = `
  select account.customer_id, account.start_day, account.used_before_usd::text, account.started_at,
    account.auto_refill, paid.paid_in_usd
  from credit_account as account
  cross join lateral (
    select coalesce(sum(amount_usd), 0)::text as paid_in_usd
    from credit_entry as entry
    where entry.organization_id = $1 and entry.customer_id = account.customer_id
  ) as paid
  where account.organization_id = $1 and ($2::text[] is null or account.customer_id = any($2))
  order by account.customer_id`

/** Later than any event's time: usage that is dated ahead counts too. */
const FOR_EVER_MS = Date.UTC(2200, 0, 1)

/**
 * The accounts of an organization with their balances, by customer; customers without credit are missing.
 * One query for the entries and one for each day on which some account began.
 *
 * @param customers only these; undefined: all
 */
export async function creditAccounts(
  database: Pool | PoolClient,
  organizationId: string,
  customers?: readonly string[],
): Promise<readonly CreditAccount[]> {
  const { rows } = await database.query(ACCOUNTS, [organizationId, customers ?? null])
  const accounts = rows.map((row) => accountRow.parse(row))
  const used = new Map<string, Decimal>()
  for (const [startMs, started] of Map.groupBy(accounts, (account) => account.start_day.getTime())) {
    const spent = await spendingBy(database, {
      organizationId,
      dimension: 'customer',
      period: { startMs, endMs: FOR_EVER_MS },
      values: started.map((account) => account.customer_id),
    })
    for (const { customer_id } of started) used.set(customer_id, spent.get(customer_id)?.sellUsd ?? ZERO)
  }
  return accounts.map((account) => {
    const paidInUsd = decimal(account.paid_in_usd)
    const usedUsd = (used.get(account.customer_id) ?? ZERO).minus(decimal(account.used_before_usd))
    const refill = account.auto_refill
    return {
      customer: account.customer_id,
      startedAt: account.started_at,
      autoRefill:
        refill === null
          ? null
          : { thresholdUsd: refill.threshold, amountUsd: refill.amount, maxPerMonth: refill.max_per_month },
      paidInUsd,
      usedUsd,
      balanceUsd: paidInUsd.minus(usedUsd),
    }
  })
}

import { decimal, ZERO } from '@tokentally/core'
import type { Pool } from 'pg'
import { inOneSnapshot } from '../database/transaction.ts'
import { dimensionOf } from '../reports/index.ts'
import { spendingBy } from './spending.ts'
import { currentPeriod } from './status.ts'
import { listBudgets } from './store.ts'

/** What the self-check found; both are zero when all is well. */
export interface LimitCheck {
  /** Budgets whose spending, as limits see it, is not the plain sum of the ledger's entries. */
  readonly differences: number
  /** Holds that count for nothing any more and were not swept for minutes. */
  readonly staleHolds: number
}

/** Swept every few seconds; minutes mean that nobody sweeps. */
const STALE_AFTER_MS = 300_000

// Entry by entry, with nothing that sums ahead: the other way to the same number.
const PLAIN_SUM = `
  select trim_scale(coalesce(sum(
      case event.entry_kind when 'reversal' then -1 else 1 end
      * (event.sell_cost_usd) + coalesce(late.sell_cost_usd, 0)), 0))::text as usd
  from usage_event as event
  left join late_rating as late
    on late.organization_id = event.organization_id and late.event_id = event.event_id
  where event.organization_id = $1 and event.ts >= $2 and event.ts < $3`

/**
 * Compares what limits believe with the ledger, in one snapshot for each organization: the spending of each period
 * and dimension that a limit uses, in all, against the sum of the ledger's own entries.
 */
export async function checkLimits(pool: Pool, now: Date): Promise<LimitCheck> {
  const budgets = (await listBudgets(pool)).filter((budget) => budget.definition.enforcement !== 'notify')
  let differences = 0
  for (const [organizationId, ofOrganization] of Map.groupBy(budgets, (budget) => budget.organizationId)) {
    const periods = new Map(
      ofOrganization.flatMap((budget) => {
        const period = currentPeriod(budget, now.getTime())
        const isSummed = dimensionOf(budget.definition.scope.dimension)?.column !== 'api_key_id'
        return period === undefined || !isSummed
          ? []
          : [[`${period.startMs} ${period.endMs}`, period] as const]
      }),
    )
    differences += await inOneSnapshot(pool, async (client) => {
      let different = 0
      for (const period of periods.values()) {
        const query = { organizationId, dimension: 'organization' as const, period, values: undefined }
        const [spent] = (await spendingBy(client, query)).values()
        const { rows } = await client.query<{ usd: string }>(PLAIN_SUM, [
          organizationId,
          new Date(period.startMs),
          new Date(period.endMs),
        ])
        if (!decimal(rows[0]?.usd ?? '0').eq(spent?.sellUsd ?? ZERO)) different++
      }
      return different
    })
  }
  const { rows } = await pool.query<{ stale: number }>(
    'select count(*)::int as stale from hold where closed_at is null and settled_at is null and expires_at < $1',
    [new Date(now.getTime() - STALE_AFTER_MS)],
  )
  return { differences, staleHolds: rows[0]?.stale ?? 0 }
}

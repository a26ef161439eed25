import type { Pool } from 'pg'
import { inTransaction } from '../database/transaction.ts'
import { ENTRY_SIGN } from './roll-up.ts'

/** A sum of the rollups that is not the sum of the ledger. */
export interface RollupDifference {
  readonly organizationId: string
  readonly bucket: Date
  /** Null: a sum by customer, provider and model. */
  readonly dimensionSetId: string | null
}

// Both sides in one statement, so in one snapshot: batches that are still open are left out of the ledger's
// side, exactly as they are missing from the rollups.
const COMPARE = `
  with truth as (
    select event.organization_id, date_bin('15 minutes', event.ts, '2020-01-01T00:00:00Z') as bucket,
      event.dimension_set_id, sum(${ENTRY_SIGN}) as requests,
      sum(${ENTRY_SIGN} * coalesce(event.input_tokens, 0)) as input_tokens,
      sum(${ENTRY_SIGN} * coalesce(event.output_tokens, 0)) as output_tokens,
      sum(${ENTRY_SIGN} * event.sell_cost_usd + coalesce(late.sell_cost_usd, 0)) as sell_cost_usd
    from usage_event as event
    join ledger_batch as batch
      on batch.organization_id = event.organization_id and batch.batch_id = event.batch_id
      and batch.rolled_up_at is not null
    left join (
      late_rating as late
      join ledger_batch as late_batch
        on late_batch.organization_id = late.organization_id and late_batch.batch_id = late.batch_id
        and late_batch.rolled_up_at is not null
    ) on late.organization_id = event.organization_id and late.event_id = event.event_id
    group by 1, 2, 3
  ), quarters as (
    select organization_id, bucket, dimension_set_id, requests, input_tokens, output_tokens, sell_cost_usd
    from usage_rollup where grain_minutes = 15
  ), days as (
    select organization_id, bucket, dimension_set_id, requests, input_tokens, output_tokens, sell_cost_usd
    from usage_rollup where grain_minutes = 1440
  ), days_of_truth as (
    select organization_id, date_bin('1 day', bucket, '2020-01-01T00:00:00Z') as bucket, dimension_set_id,
      sum(requests) as requests, sum(input_tokens) as input_tokens, sum(output_tokens) as output_tokens,
      sum(sell_cost_usd) as sell_cost_usd
    from truth group by 1, 2, 3
  ), summaries as (
    select organization_id, bucket, customer_id, provider, model, requests, input_tokens, output_tokens, sell_cost_usd
    from usage_summary
  ), summaries_of_truth as (
    select organization_id, bucket, customer_id, provider, model, sum(requests) as requests,
      sum(input_tokens) as input_tokens, sum(output_tokens) as output_tokens, sum(sell_cost_usd) as sell_cost_usd
    from days_of_truth join dimension_set using (organization_id, dimension_set_id)
    group by 1, 2, 3, 4, 5
  )
  select organization_id, bucket, dimension_set_id from (
    (table truth except table quarters) union (table quarters except table truth)
    union (table days_of_truth except table days) union (table days except table days_of_truth)
  ) as different
  union all
  select organization_id, bucket, null from (
    (table summaries except table summaries_of_truth) union (table summaries_of_truth except table summaries)
  ) as different
  order by 1, 2, 3
  limit 1000`

/** Compares the rollups with the ledger they were made of; empty when every sum agrees to the last digit. */
export async function compareRollups(pool: Pool): Promise<readonly RollupDifference[]> {
  const result = await pool.query<{ organization_id: string; bucket: Date; dimension_set_id: string | null }>(
    COMPARE,
  )
  return result.rows.map((row) => ({
    organizationId: row.organization_id,
    bucket: row.bucket,
    dimensionSetId: row.dimension_set_id,
  }))
}

/** Forgets all rollups; the next `rollUp` makes them again from the ledger. Reports stay exact meanwhile. */
export async function resetRollups(pool: Pool): Promise<void> {
  await inTransaction(pool, async (client) => {
    await client.query("select pg_advisory_xact_lock(hashtext('tokentally.rollup'))")
    await client.query('delete from usage_rollup')
    await client.query('delete from usage_summary')
    await client.query('update ledger_batch set rolled_up_at = null where rolled_up_at is not null')
  })
}

import type { Pool, PoolClient } from 'pg'
import { inTransaction } from '../database/transaction.ts'

/** Batches taken into one transaction; at 5,000 events each that is about a second of work. */
const BATCHES_MAX = 200

const SUM_COLUMNS = [
  'requests',
  'errors',
  'estimated_requests',
  'unpriced_requests',
  'input_tokens',
  'cache_read_tokens',
  'cache_write_tokens',
  'output_tokens',
  'reasoning_tokens',
  'list_cost_usd',
  'sell_cost_usd',
] as const

const sums = SUM_COLUMNS.map((column) => `sum(${column}) as ${column}`).join(', ')
const additions = (table: string) =>
  SUM_COLUMNS.map((column) => `${column} = ${table}.${column} + excluded.${column}`).join(', ')

/** The dimensions that sums per day are kept for beside those of whole dimension sets. */
export const SUMMARY_COLUMNS = ['customer_id', 'provider', 'model'] as const

/** 1, or -1 for an entry that takes an event back: its amounts are those of that event. `event` is its alias. */
export const ENTRY_SIGN = "case event.entry_kind when 'reversal' then -1 else 1 end"

/** What one ledger entry adds to a rollup, as select list; `event` is its alias. */
export const ENTRY_SUMS = `
    ${ENTRY_SIGN} as requests,
    ${ENTRY_SIGN} * (event.status = 'error')::int as errors,
    ${ENTRY_SIGN} * event.estimated::int as estimated_requests,
    ${ENTRY_SIGN} * (event.rating_status <> 'rated')::int as unpriced_requests,
    ${ENTRY_SIGN} * coalesce(event.input_tokens, 0) as input_tokens,
    ${ENTRY_SIGN} * coalesce(event.cache_read_tokens, 0) as cache_read_tokens,
    ${ENTRY_SIGN} * coalesce(event.cache_write_tokens, 0) as cache_write_tokens,
    ${ENTRY_SIGN} * coalesce(event.output_tokens, 0) as output_tokens,
    ${ENTRY_SIGN} * coalesce(event.reasoning_tokens, 0) as reasoning_tokens,
    ${ENTRY_SIGN} * event.list_cost_usd as list_cost_usd,
    ${ENTRY_SIGN} * event.sell_cost_usd as sell_cost_usd`

/** What a late rating adds; `late` is its alias. The event itself was counted when it arrived. */
export const LATE_SUMS = `
    0 as requests,
    0 as errors,
    0 as estimated_requests,
    -1 as unpriced_requests,
    0 as input_tokens,
    0 as cache_read_tokens,
    0 as cache_write_tokens,
    0 as output_tokens,
    0 as reasoning_tokens,
    late.list_cost_usd,
    late.sell_cost_usd`

// "offset 0" keeps the batch lookup an index scan per batch, whatever the planner believes about a ledger
// that grew since it was last analyzed; the bounds on ts leave out the partitions that cannot match.
const ROLL_UP = `
  with open as materialized (
    select organization_id, batch_id, ts_min, ts_max
    from ledger_batch
    where rolled_up_at is null
    order by organization_id, batch_id
    limit $1
  ), entries as (
    select entry.*
    from open
    cross join lateral (
      select event.organization_id, event.dimension_set_id, event.ts, ${ENTRY_SUMS}
      from usage_event as event
      where event.organization_id = open.organization_id
        and event.batch_id = open.batch_id
        and event.ts between open.ts_min and open.ts_max
      offset 0
    ) as entry
    union all
    select entry.*
    from open
    cross join lateral (
      select late.organization_id, late.dimension_set_id, late.ts, ${LATE_SUMS}
      from late_rating as late
      where late.organization_id = open.organization_id and late.batch_id = open.batch_id
      offset 0
    ) as entry
  ), quarters as (
    select
      organization_id,
      date_bin('15 minutes', ts, '2020-01-01T00:00:00Z') as bucket,
      dimension_set_id,
      ${sums}
    from entries
    group by 1, 2, 3
  ), days as (
    select
      organization_id,
      date_bin('1 day', bucket, '2020-01-01T00:00:00Z') as bucket,
      dimension_set_id,
      ${sums}
    from quarters
    group by 1, 2, 3
  ), summarized as (
    insert into usage_summary (organization_id, bucket, ${SUMMARY_COLUMNS.join(', ')}, ${SUM_COLUMNS.join(', ')})
    select days.organization_id, days.bucket, ${SUMMARY_COLUMNS.join(', ')}, ${sums}
    from days
    join dimension_set using (organization_id, dimension_set_id)
    group by days.organization_id, days.bucket, ${SUMMARY_COLUMNS.join(', ')}
    on conflict (organization_id, bucket, ${SUMMARY_COLUMNS.join(', ')}) do update set ${additions('usage_summary')}
  ), added as (
    insert into usage_rollup (grain_minutes, organization_id, bucket, dimension_set_id, ${SUM_COLUMNS.join(', ')})
    select 15, * from quarters
    union all
    select 1440, * from days
    on conflict (organization_id, grain_minutes, bucket, dimension_set_id) do update set ${additions('usage_rollup')}
  )
  update ledger_batch
  set rolled_up_at = $2
  from open
  where ledger_batch.organization_id = open.organization_id and ledger_batch.batch_id = open.batch_id`

/**
 * Adds committed batches to the rollups and marks them, all in one transaction: safe to run twice, late, or
 * on every replica at once (one of them works, the others return).
 *
 * @returns how many batches were rolled up; fewer than asked for means that nothing is left
 */
export async function rollUp(pool: Pool, now: () => Date): Promise<number> {
  let total = 0
  for (;;) {
    const rolledUp = await inTransaction(pool, async (client) => {
      const lock = await client.query<{ locked: boolean }>(
        "select pg_try_advisory_xact_lock(hashtext('tokentally.rollup')) as locked",
      )
      if (lock.rows[0]?.locked !== true) return 0
      const result = await client.query(ROLL_UP, [BATCHES_MAX, now()])
      return result.rowCount ?? 0
    })
    total += rolledUp
    if (rolledUp < BATCHES_MAX) return total
  }
}

/** Waits for the rollup that is under way, and holds off others until the transaction ends: it writes batches, too. */
export async function holdOffRollups(client: PoolClient): Promise<void> {
  await client.query("select pg_advisory_xact_lock(hashtext('tokentally.rollup'))")
}

/** How far the rollups are behind the ledger. */
export interface RollupLag {
  readonly openBatches: number
  /** Age of the oldest batch that is not rolled up; 0 when there is none. */
  readonly lagSeconds: number
}

export async function rollupLag(pool: Pool, now: () => Date): Promise<RollupLag> {
  const result = await pool.query<{ open: number; oldest: Date | null }>(
    'select count(*)::int as open, min(created_at) as oldest from ledger_batch where rolled_up_at is null',
  )
  const row = result.rows[0]
  const oldest = row?.oldest ?? null
  return {
    openBatches: row?.open ?? 0,
    lagSeconds: oldest === null ? 0 : Math.max(0, (now().getTime() - oldest.getTime()) / 1000),
  }
}

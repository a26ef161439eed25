import type { Pool, PoolClient } from 'pg'
import { inTransaction } from '../database/transaction.ts'
import { STANDING } from '../ledger/index.ts'
import type { DriftSums } from './drift.ts'

/** What one tokenizer counted for one model. */
export interface TokenizerUse {
  readonly organizationId: string
  readonly tokenizer: string
  readonly provider: string
  readonly model: string
}

/** The sample of a tokenizer, by direction for the week. */
export interface MeasuredDrift extends TokenizerUse {
  readonly day: DriftSums
  readonly week: DriftSums
}

const DAY_MS = 24 * 3_600_000
const WEEK_MS = 7 * DAY_MS
/** Tokenizers and models of one organization; versions and models come and go. */
const USES_MAX = 200

// Only where both counts are there: what was not counted must not stand in the sum that it is compared with.
const MEASURE = `
  with sample as (
    select organization_id, tokenizer, provider, coalesce(response_model, model, '') as model, ts,
      case when counted_input_tokens is null then 0 else coalesce(input_tokens, 0) end
        + case when counted_output_tokens is null then 0 else coalesce(output_tokens, 0) end as reported,
      coalesce(counted_input_tokens, 0) + coalesce(counted_output_tokens, 0) as counted
    from usage_event as event
    where ($1::uuid is null or organization_id = $1)
      and ts >= $3
      and (counted_input_tokens is not null or counted_output_tokens is not null)
      and tokenizer is not null
      and not estimated
      and ${STANDING}
  ), ranked as (
    select organization_id, tokenizer, provider, model,
      count(*) filter (where ts >= $2)::integer as day_events,
      coalesce(sum(reported) filter (where ts >= $2), 0)::text as day_reported,
      coalesce(sum(counted) filter (where ts >= $2), 0)::text as day_counted,
      count(*)::integer as week_events,
      sum(reported)::text as week_reported,
      sum(counted)::text as week_counted,
      row_number() over (partition by organization_id order by count(*) desc, tokenizer, provider, model) as place
    from sample
    group by organization_id, tokenizer, provider, model
  )
  select * from ranked where place <= $4 order by organization_id, place`

interface MeasuredRow {
  readonly organization_id: string
  readonly tokenizer: string
  readonly provider: string
  readonly model: string
  readonly day_events: number
  readonly day_reported: string
  readonly day_counted: string
  readonly week_events: number
  readonly week_reported: string
  readonly week_counted: string
}

/**
 * Sums up the samples of the last day and week, the largest first.
 *
 * @param organizationId all organizations where undefined
 */
export async function measureDrift(
  database: Pool | PoolClient,
  organizationId: string | undefined,
  nowMs: number,
): Promise<MeasuredDrift[]> {
  const parameters = [organizationId ?? null, new Date(nowMs - DAY_MS), new Date(nowMs - WEEK_MS), USES_MAX]
  const { rows } = await database.query<MeasuredRow>(MEASURE, parameters)
  return rows.map((row) => ({
    organizationId: row.organization_id,
    tokenizer: row.tokenizer,
    provider: row.provider,
    model: row.model,
    day: sumsOf(row.day_events, row.day_reported, row.day_counted),
    week: sumsOf(row.week_events, row.week_reported, row.week_counted),
  }))
}

/** Counts of a sample are far below what a number holds exactly. */
function sumsOf(events: number, reported: string, counted: string): DriftSums {
  return { events, reportedTokens: Number(reported), countedTokens: Number(counted) }
}

/** What was last measured of a tokenizer, and decided. */
export interface DriftState extends TokenizerUse {
  readonly sums: DriftSums
  readonly isDrifting: boolean
}

// The old state is locked first: two jobs at once must not both see a change.
const LOCK = 'lock table tokenizer_drift in share row exclusive mode'
const OLD = `
  select organization_id, tokenizer, provider, model from tokenizer_drift where is_drifting`
const INSERT = `
  insert into tokenizer_drift
    (organization_id, tokenizer, provider, model, events, reported_tokens, counted_tokens, is_drifting, measured_at)
  select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::bigint[], $7::bigint[],
    $8::boolean[], $9::timestamptz[])`

/** Writes the states of all tokenizers in place of the old ones. @returns which drifted before */
export async function replaceStates(
  pool: Pool,
  states: readonly DriftState[],
  measuredAt: Date,
): Promise<readonly TokenizerUse[]> {
  const before = await inTransaction(pool, async (client) => {
    await client.query(LOCK)
    const { rows } = await client.query<MeasuredRow>(OLD)
    await client.query('delete from tokenizer_drift')
    await client.query(INSERT, [
      states.map(({ organizationId }) => organizationId),
      states.map(({ tokenizer }) => tokenizer),
      states.map(({ provider }) => provider),
      states.map(({ model }) => model),
      states.map(({ sums }) => sums.events),
      states.map(({ sums }) => sums.reportedTokens),
      states.map(({ sums }) => sums.countedTokens),
      states.map(({ isDrifting }) => isDrifting),
      states.map(() => measuredAt),
    ])
    return rows
  })
  return before.map((row) => ({
    organizationId: row.organization_id,
    tokenizer: row.tokenizer,
    provider: row.provider,
    model: row.model,
  }))
}

// Of all organizations together: a metric has few labels. The worst ones, so that they are bounded.
const SHOWN = `
  select tokenizer, model,
    ((sum(counted_tokens) - sum(reported_tokens)) / sum(reported_tokens))::float8 as ratio
  from tokenizer_drift
  group by tokenizer, model
  having sum(reported_tokens) > 0
  order by abs(sum(counted_tokens) - sum(reported_tokens)) / sum(reported_tokens) desc, tokenizer, model
  limit $1`

/** The drift of each tokenizer and model over all organizations, as last measured, the largest first. */
export async function listDriftRatios(
  pool: Pool,
  limit: number,
): Promise<readonly { readonly tokenizer: string; readonly model: string; readonly ratio: number }[]> {
  const { rows } = await pool.query<{ tokenizer: string; model: string; ratio: number }>(SHOWN, [limit])
  return rows
}

import {
  GPU_SAMPLE_GAP_MS,
  type GpuCall,
  type GpuInterval,
  type GpuSample,
  type UsageEventJson,
} from '@tokentally/core'
import type { Pool } from 'pg'
import { STANDING } from '../ledger/index.ts'
import { ATTRIBUTED_COLUMNS, attributionKey, GPU_OPERATIONS } from './interval-events.ts'
import { INTERVAL_MS, type Series } from './series.ts'

/** A GPU that was seen this recently is expected: while it says nothing, its time is unknown. */
const EXPECTED_FOR_MS = 3_600_000
/** Calls that began earlier than this before an interval get nothing of it, however long they run. */
const CALL_LONGEST_MS = 30 * 60_000
/** How far back the counters before an interval are looked for. */
const COUNTER_LOOKBACK_MS = 24 * 3_600_000

interface SeriesRow {
  readonly organization_id: string
  readonly target: string
  readonly provider: string
  readonly model: string
  readonly next_interval_at: Date
}

/** A series and the beginning of its first interval that is not closed. */
export interface OpenSeries extends Series {
  readonly nextIntervalMs: number
}

/** The series with an interval to close that ends at `until` or before, and that their GPUs were expected in. */
export async function openSeries(pool: Pool, untilMs: number): Promise<readonly OpenSeries[]> {
  const { rows } = await pool.query<SeriesRow>(
    `select organization_id, target, provider, model, next_interval_at
     from gpu_series
     where next_interval_at <= $1 and next_interval_at < last_sampled_at + $2 * interval '1 millisecond'
     order by organization_id, target, provider, model`,
    [new Date(untilMs - INTERVAL_MS), EXPECTED_FOR_MS],
  )
  return rows.map((row) => ({
    organizationId: row.organization_id,
    target: row.target,
    provider: row.provider,
    model: row.model,
    nextIntervalMs: row.next_interval_at.getTime(),
  }))
}

/** The samples that say something about an interval, by GPU; a GPU that was only expected has none. */
export async function samplesOf(
  pool: Pool,
  series: Series,
  interval: GpuInterval,
): Promise<ReadonlyMap<string, readonly GpuSample[]>> {
  const { rows } = await pool.query<{ gpu: string; sampled_at: Date; busy_ppm: number }>(
    `select gpu, sampled_at, busy_ppm
     from gpu_sample
     where organization_id = $1 and target = $2 and provider = $3 and model = $4
       and sampled_at >= $5 and sampled_at <= $6
     order by gpu, sampled_at`,
    [
      ...keyOf(series),
      new Date(interval.startMs - EXPECTED_FOR_MS),
      new Date(interval.endMs + GPU_SAMPLE_GAP_MS),
    ],
  )
  const byGpu = new Map<string, GpuSample[]>()
  for (const row of rows) {
    const samples = byGpu.get(row.gpu) ?? []
    byGpu.set(row.gpu, samples)
    samples.push({ atMs: row.sampled_at.getTime(), busyPpm: row.busy_ppm })
  }
  return byGpu
}

/** The first sample at or after a moment; undefined when there is none. */
export async function nextSampleMs(pool: Pool, series: Series, fromMs: number): Promise<number | undefined> {
  const { rows } = await pool.query<{ sampled_at: Date | null }>(
    `select min(sampled_at) as sampled_at
     from gpu_sample
     where organization_id = $1 and target = $2 and provider = $3 and model = $4 and sampled_at >= $5`,
    [...keyOf(series), new Date(fromMs)],
  )
  return rows[0]?.sampled_at?.getTime()
}

interface CallRow extends Readonly<Record<(typeof ATTRIBUTED_COLUMNS)[number], string | null>> {
  readonly ts: Date
  readonly latency_ms: number | null
  readonly time_to_first_token_ms: number | null
  readonly input_tokens: string | null
  readonly cache_read_tokens: string | null
  readonly output_tokens: string | null
}

/** The ledger's calls of a model that may overlap an interval. */
export async function callsOf(
  pool: Pool,
  series: Series,
  interval: GpuInterval,
): Promise<readonly GpuCall[]> {
  const { rows } = await pool.query<CallRow>(
    `select ts, latency_ms, time_to_first_token_ms, input_tokens, cache_read_tokens, output_tokens,
       ${ATTRIBUTED_COLUMNS.join(', ')}
     from usage_event as event
     where organization_id = $1 and ts >= $2 and ts < $3 and provider = $4
       and ${STANDING}
       and model = $5 and status <> 'error' and operation <> all ($6::text[])
       and ts + coalesce(latency_ms, 0) * interval '1 millisecond' >= $7`,
    [
      series.organizationId,
      new Date(interval.startMs - CALL_LONGEST_MS),
      new Date(interval.endMs),
      series.provider,
      series.model,
      GPU_OPERATIONS,
      new Date(interval.startMs),
    ],
  )
  return rows.map((row) => ({
    key: attributionKey(ATTRIBUTED_COLUMNS.map((column) => row[column])),
    startMs: row.ts.getTime(),
    durationMs: row.latency_ms ?? 0,
    timeToFirstTokenMs: row.time_to_first_token_ms ?? undefined,
    inputTokens: Number(row.input_tokens ?? 0),
    cacheReadTokens: Number(row.cache_read_tokens ?? 0),
    outputTokens: Number(row.output_tokens ?? 0),
  }))
}

/** Tokens that engines counted. */
export interface ServedTokens {
  readonly input: string
  readonly output: string
}

/**
 * What the engines of a series counted up to samples within an interval; undefined when no two samples say it.
 * A counter that is lower than before was reset, and counts from zero, as Prometheus takes it.
 */
export async function servedTokens(
  pool: Pool,
  series: Series,
  interval: GpuInterval,
): Promise<ServedTokens | undefined> {
  const { rows } = await pool.query<{ input: string | null; output: string | null }>(
    `with sample as (
       select sampled_at, input_tokens_total as input, output_tokens_total as output,
         lag(input_tokens_total) over engine as input_before, lag(output_tokens_total) over engine as output_before
       from gpu_serving_sample
       where organization_id = $1 and target = $2 and provider = $3 and model = $4
         and sampled_at >= $5 and sampled_at < $7
       window engine as (partition by engine order by sampled_at)
     )
     select sum(case when input >= input_before then input - input_before else input end)::text as input,
       sum(case when output >= output_before then output - output_before else output end)::text as output
     from sample
     where sampled_at >= $6 and input_before is not null`,
    [
      ...keyOf(series),
      new Date(interval.startMs - COUNTER_LOOKBACK_MS),
      new Date(interval.startMs),
      new Date(interval.endMs),
    ],
  )
  const { input = null, output = null } = rows[0] ?? {}
  return input === null || output === null ? undefined : { input, output }
}

/** An interval with all that was decided about it. Times in whole microseconds, over all its GPUs. */
export interface ClosedInterval extends Series {
  readonly startedAt: Date
  readonly gpus: number
  readonly calls: number
  readonly attributedUs: bigint
  readonly unattributedUs: bigint
  readonly idleUs: bigint
  readonly unknownUs: bigint
  readonly served: ServedTokens | undefined
  readonly events: readonly UsageEventJson[]
}

// The interval and the series' step past it commit together. "do nothing": whoever closes it first decides.
const CLOSE = `
  with closed as (
    insert into gpu_interval (
      organization_id, target, provider, model, started_at, gpus, calls, attributed_us, unattributed_us, idle_us,
      unknown_us, served_input_tokens, served_output_tokens, closed_at, events
    )
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
    on conflict do nothing
    returning started_at
  ), step as (
    update gpu_series set next_interval_at = greatest(next_interval_at, $16)
    where organization_id = $1 and target = $2 and provider = $3 and model = $4
  )
  select started_at from closed`

/** Closes an interval for good. @returns false when it was closed before, and the first decision stands */
export async function closeInterval(pool: Pool, interval: ClosedInterval, closedAt: Date): Promise<boolean> {
  const result = await pool.query(CLOSE, [
    ...keyOf(interval),
    interval.startedAt,
    interval.gpus,
    interval.calls,
    interval.attributedUs.toString(),
    interval.unattributedUs.toString(),
    interval.idleUs.toString(),
    interval.unknownUs.toString(),
    interval.served?.input ?? null,
    interval.served?.output ?? null,
    closedAt,
    JSON.stringify(interval.events),
    new Date(interval.startedAt.getTime() + INTERVAL_MS),
  ])
  return result.rowCount === 1
}

/** Passes over a time in which no GPU of the series was expected. */
export async function skipTo(pool: Pool, series: Series, nextIntervalMs: number): Promise<void> {
  await pool.query(
    `update gpu_series set next_interval_at = greatest(next_interval_at, $5)
     where organization_id = $1 and target = $2 and provider = $3 and model = $4`,
    [...keyOf(series), new Date(nextIntervalMs)],
  )
}

interface UnappendedRow {
  readonly organization_id: string
  readonly target: string
  readonly provider: string
  readonly model: string
  readonly started_at: Date
  readonly events: readonly unknown[]
}

/** A closed interval whose events may not be in the ledger yet. */
export interface UnappendedInterval extends Series {
  readonly startedAt: Date
  readonly events: readonly unknown[]
}

/** Closed intervals that are not known to be in the ledger, the oldest first. */
export async function unappendedIntervals(pool: Pool, limit: number): Promise<readonly UnappendedInterval[]> {
  const { rows } = await pool.query<UnappendedRow>(
    `select organization_id, target, provider, model, started_at, events
     from gpu_interval
     where appended_at is null
     order by started_at, organization_id, target, provider, model
     limit $1`,
    [limit],
  )
  return rows.map((row) => ({
    organizationId: row.organization_id,
    target: row.target,
    provider: row.provider,
    model: row.model,
    startedAt: row.started_at,
    events: row.events,
  }))
}

/** Notes that the ledger has the events of an interval. */
export async function markAppended(pool: Pool, interval: UnappendedInterval, at: Date): Promise<void> {
  await pool.query(
    `update gpu_interval set appended_at = $6, events = null
     where organization_id = $1 and target = $2 and provider = $3 and model = $4 and started_at = $5
       and appended_at is null`,
    [...keyOf(interval), interval.startedAt, at],
  )
}

function keyOf({ organizationId, target, provider, model }: Series): readonly string[] {
  return [organizationId, target, provider, model]
}

import { GPU_SAMPLE_EVERY_MS } from '@tokentally/core'
import type { Pool } from 'pg'
import type { ServedModel } from '../gpu-targets.ts'
import type { GpuReading } from './dcgm.ts'
import { INTERVAL_MS } from './series.ts'
import type { EngineReading } from './vllm.ts'

/** What was read of one target at one moment. */
export interface TargetSamples<Reading> {
  readonly organizationId: string
  readonly target: string
  readonly at: Date
  readonly readings: readonly (Reading & { readonly served: ServedModel })[]
}

// "do nothing": a job that runs twice looks twice; the first look of its quarter of a minute stands. The series
// follows in the same statement, so that there is no sample that nobody would close.
const INSERT_GPU_SAMPLES = `
  with reading as (
    select *
    from unnest($5::text[], $6::text[], $7::text[], $8::int[], $9::text[], $10::float8[])
      as reading (gpu, provider, model, busy_ppm, source, power_watts)
  ), series as (
    insert into gpu_series (organization_id, target, provider, model, next_interval_at, last_sampled_at)
    select distinct $1::uuid, $2::text, provider, model, $11::timestamptz, $3::timestamptz
    from reading
    order by provider, model
    on conflict (organization_id, target, provider, model)
      do update set last_sampled_at = greatest(gpu_series.last_sampled_at, excluded.last_sampled_at)
  )
  insert into gpu_sample (
    organization_id, target, gpu, bucket, sampled_at, provider, model, busy_ppm, source, power_watts
  )
  select $1::uuid, $2::text, gpu, $4::timestamptz, $3::timestamptz, provider, model, busy_ppm, source, power_watts
  from reading
  order by gpu
  on conflict do nothing`

/** Stores one look at the GPUs of a target; a second look within the same quarter of a minute changes nothing. */
export async function insertGpuSamples(pool: Pool, samples: TargetSamples<GpuReading>): Promise<void> {
  const { organizationId, target, at, readings } = samples
  await pool.query(INSERT_GPU_SAMPLES, [
    organizationId,
    target,
    at,
    bucketOf(at),
    readings.map(({ gpu }) => gpu),
    readings.map(({ served }) => served.provider),
    readings.map(({ served }) => served.model),
    readings.map(({ busyPpm }) => busyPpm),
    readings.map(({ source }) => source),
    readings.map(({ powerWatts }) => powerWatts ?? null),
    new Date(Math.floor(at.getTime() / INTERVAL_MS) * INTERVAL_MS),
  ])
}

const INSERT_SERVING_SAMPLES = `
  insert into gpu_serving_sample (
    organization_id, target, engine, bucket, sampled_at, provider, model, input_tokens_total, output_tokens_total,
    running_requests
  )
  select $1::uuid, $2::text, engine, $4::timestamptz, $3::timestamptz, provider, model, input_tokens_total,
    output_tokens_total, running_requests
  from unnest($5::text[], $6::text[], $7::text[], $8::bigint[], $9::bigint[], $10::int[])
    as reading (engine, provider, model, input_tokens_total, output_tokens_total, running_requests)
  order by engine
  on conflict do nothing`

/** Stores the counters of a target's engines. */
export async function insertServingSamples(pool: Pool, samples: TargetSamples<EngineReading>): Promise<void> {
  const { organizationId, target, at, readings } = samples
  await pool.query(INSERT_SERVING_SAMPLES, [
    organizationId,
    target,
    at,
    bucketOf(at),
    readings.map(({ engine }) => engine),
    readings.map(({ served }) => served.provider),
    readings.map(({ served }) => served.model),
    readings.map(({ inputTokensTotal }) => inputTokensTotal),
    readings.map(({ outputTokensTotal }) => outputTokensTotal),
    readings.map(({ runningRequests }) => runningRequests ?? null),
  ])
}

/** Deletes samples that are older than `before`; what was made of them stays. */
export async function deleteSamples(pool: Pool, before: Date): Promise<void> {
  await pool.query('delete from gpu_sample where sampled_at < $1', [before])
  await pool.query('delete from gpu_serving_sample where sampled_at < $1', [before])
}

function bucketOf(at: Date): Date {
  return new Date(Math.floor(at.getTime() / GPU_SAMPLE_EVERY_MS) * GPU_SAMPLE_EVERY_MS)
}

import type { Knex } from 'knex'

/**
 * GPU time of self-hosted models. New tables only: locks nothing that exists. Plain tables, also on TimescaleDB:
 * samples are kept for days, intervals are one row a minute and model.
 *
 * - gpu_sample     one look at one GPU, or at one MIG instance of it: how busy it was until then.
 * - gpu_series     a model on a target, and up to when its time is closed.
 * - gpu_serving_sample  the token counters of one vLLM engine, beside it.
 * - gpu_interval   a closed minute of one model on one target: what was measured and what became of it. The
 *                  usage events of the minute are decided together with the row, and kept in it until the
 *                  ledger has them: a repeat appends the same events, whatever calls have arrived since.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table gpu_sample (
      organization_id uuid not null,
      target text not null,
      gpu text not null,
      bucket timestamptz not null,
      sampled_at timestamptz not null,
      provider text not null,
      model text not null,
      busy_ppm integer not null check (busy_ppm between 0 and 1000000),
      source text not null check (source in ('gr_engine_active', 'gpu_util')),
      power_watts double precision check (power_watts >= 0),
      primary key (organization_id, target, gpu, bucket)
    )`)
  await knex.raw(
    'create index gpu_sample_series on gpu_sample (organization_id, target, provider, model, sampled_at)',
  )
  await knex.raw('create index gpu_sample_age on gpu_sample (sampled_at)')

  await knex.raw(`
    create table gpu_series (
      organization_id uuid not null,
      target text not null,
      provider text not null,
      model text not null,
      next_interval_at timestamptz not null,
      last_sampled_at timestamptz not null,
      primary key (organization_id, target, provider, model)
    )`)

  await knex.raw(`
    create table gpu_serving_sample (
      organization_id uuid not null,
      target text not null,
      engine text not null,
      bucket timestamptz not null,
      sampled_at timestamptz not null,
      provider text not null,
      model text not null,
      input_tokens_total bigint not null check (input_tokens_total >= 0),
      output_tokens_total bigint not null check (output_tokens_total >= 0),
      running_requests integer check (running_requests >= 0),
      primary key (organization_id, target, engine, bucket)
    )`)
  await knex.raw(
    'create index gpu_serving_sample_series on gpu_serving_sample (organization_id, target, provider, model, sampled_at)',
  )
  await knex.raw('create index gpu_serving_sample_age on gpu_serving_sample (sampled_at)')

  await knex.raw(`
    create table gpu_interval (
      organization_id uuid not null,
      target text not null,
      provider text not null,
      model text not null,
      started_at timestamptz not null,
      gpus integer not null check (gpus >= 0),
      calls integer not null check (calls >= 0),
      attributed_us bigint not null check (attributed_us >= 0),
      unattributed_us bigint not null check (unattributed_us >= 0),
      idle_us bigint not null check (idle_us >= 0),
      unknown_us bigint not null check (unknown_us >= 0),
      served_input_tokens bigint check (served_input_tokens >= 0),
      served_output_tokens bigint check (served_output_tokens >= 0),
      closed_at timestamptz not null,
      appended_at timestamptz,
      events jsonb,
      primary key (organization_id, target, provider, model, started_at),
      check ((appended_at is null) = (events is not null))
    )`)
  await knex.raw('create index gpu_interval_time on gpu_interval (organization_id, started_at)')
  await knex.raw('create index gpu_interval_open on gpu_interval (started_at) where appended_at is null')
}

export async function down(knex: Knex): Promise<void> {
  for (const table of ['gpu_interval', 'gpu_serving_sample', 'gpu_series', 'gpu_sample']) {
    await knex.raw(`drop table if exists ${table}`)
  }
}

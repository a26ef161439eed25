import type { Knex } from 'knex'

/**
 * The ledger and its rollups. New tables only: locks nothing that exists.
 *
 * - usage_event   the append-only ledger, one row per usage event, rated when it arrived. A hypertable where
 *                 TimescaleDB is, else natively partitioned by month; same columns, same queries.
 * - event_key     the once-rule. A hypertable cannot hold a unique key without its time column, so the claim
 *                 lives in a plain table and commits together with the entry or not at all.
 * - late_rating   amounts of events that had no price when they arrived; the event itself stays as it is.
 * - ledger_batch  one row per ingestion transaction and organization; says what the rollups contain.
 * - dimension_set the distinct attributions that rollups are kept for, interned under a content-derived id.
 * - usage_rollup  sums per 15 minutes and per UTC day. Always recomputable from usage_event.
 * - usage_summary sums per UTC day, customer, provider and model alone: what most reports ask for, in few rows.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create function refuse_change() returns trigger language plpgsql as $$
    begin
      raise exception '% is append-only: record a correction instead', tg_table_name
        using errcode = 'restrict_violation';
    end $$`)

  await knex.raw('create sequence ledger_batch_id as bigint')
  await knex.raw(`
    create table ledger_batch (
      organization_id uuid not null,
      batch_id bigint not null,
      event_count integer not null,
      ts_min timestamptz not null,
      ts_max timestamptz not null,
      created_at timestamptz not null default now(),
      rolled_up_at timestamptz,
      primary key (organization_id, batch_id)
    )`)
  await knex.raw(
    'create index ledger_batch_open on ledger_batch (organization_id, batch_id) where rolled_up_at is null',
  )

  await knex.raw(`
    create table event_key (
      organization_id uuid not null,
      event_id text not null,
      content_hash bytea not null,
      ts timestamptz not null,
      batch_id bigint not null,
      primary key (organization_id, event_id)
    )`)

  await knex.raw(`
    create table dimension_set (
      organization_id uuid not null,
      dimension_set_id uuid not null,
      customer_id text,
      team_id text,
      project_id text,
      business_unit text,
      cost_center text,
      feature text,
      agent text,
      environment text,
      provider text not null,
      model text,
      operation text not null,
      status text not null,
      primary key (organization_id, dimension_set_id)
    )`)
  await knex.raw('create index dimension_set_customer on dimension_set (organization_id, customer_id)')

  const timescale = await timescaleOf(knex)
  await knex.raw(`
    create table usage_event (
      organization_id uuid not null,
      event_id text not null,
      ts timestamptz not null,
      batch_id bigint not null,
      dimension_set_id uuid not null,
      received_at timestamptz not null,
      customer_id text,
      user_id text,
      team_id text,
      project_id text,
      business_unit text,
      cost_center text,
      feature text,
      conversation_id text,
      agent text,
      environment text,
      provider text not null,
      model text,
      response_model text,
      operation text not null,
      service_tier text,
      region text,
      status text not null check (status in ('ok', 'error', 'aborted')),
      streamed boolean not null,
      estimated boolean not null,
      input_tokens bigint check (input_tokens >= 0),
      cache_read_tokens bigint check (cache_read_tokens >= 0),
      cache_write_tokens bigint check (cache_write_tokens >= 0),
      output_tokens bigint check (output_tokens >= 0),
      reasoning_tokens bigint check (reasoning_tokens >= 0),
      meters jsonb,
      rating_status text not null check (rating_status in ('rated', 'unpriced', 'partly_unpriced')),
      lines jsonb not null,
      list_cost_usd numeric not null check (list_cost_usd >= 0),
      sell_cost_usd numeric not null check (sell_cost_usd >= 0),
      unpriced_meters text[],
      price_version_id uuid,
      latency_ms double precision,
      time_to_first_token_ms double precision,
      provider_request_id text,
      trace_id text,
      span_id text,
      prompt_hash text,
      attempt smallint,
      call_id text,
      tags jsonb,
      host jsonb,
      primary key (organization_id, ts, event_id)
    ) ${timescale === undefined ? 'partition by range (ts)' : ''}`)
  await knex.raw('create index usage_event_batch on usage_event (organization_id, batch_id)')
  await knex.raw(
    "create index usage_event_unpriced on usage_event (organization_id, ts) where rating_status <> 'rated'",
  )
  await knex.raw(
    'create trigger usage_event_append_only before update or delete on usage_event for each row execute function refuse_change()',
  )
  await knex.raw(
    'create trigger usage_event_no_truncate before truncate on usage_event for each statement execute function refuse_change()',
  )
  await (timescale === undefined ? partitionByMonth(knex) : makeHypertable(knex, timescale))

  await knex.raw(`
    create table late_rating (
      organization_id uuid not null,
      event_id text not null,
      ts timestamptz not null,
      batch_id bigint not null,
      dimension_set_id uuid not null,
      rated_at timestamptz not null,
      lines jsonb not null,
      list_cost_usd numeric not null check (list_cost_usd >= 0),
      sell_cost_usd numeric not null check (sell_cost_usd >= 0),
      price_version_id uuid not null,
      primary key (organization_id, event_id)
    )`)
  await knex.raw('create index late_rating_batch on late_rating (organization_id, batch_id)')
  await knex.raw('create index late_rating_ts on late_rating (organization_id, ts)')
  for (const table of ['event_key', 'late_rating', 'dimension_set']) {
    await knex.raw(
      `create trigger ${table}_append_only before update or delete on ${table} for each row execute function refuse_change()`,
    )
    await knex.raw(
      `create trigger ${table}_no_truncate before truncate on ${table} for each statement execute function refuse_change()`,
    )
  }

  await knex.raw(`
    create table usage_rollup (
      organization_id uuid not null,
      grain_minutes smallint not null check (grain_minutes in (15, 1440)),
      bucket timestamptz not null,
      dimension_set_id uuid not null,
      requests bigint not null,
      errors bigint not null,
      estimated_requests bigint not null,
      unpriced_requests bigint not null,
      input_tokens bigint not null,
      cache_read_tokens bigint not null,
      cache_write_tokens bigint not null,
      output_tokens bigint not null,
      reasoning_tokens bigint not null,
      list_cost_usd numeric not null,
      sell_cost_usd numeric not null,
      primary key (organization_id, grain_minutes, bucket, dimension_set_id)
    )`)

  await knex.raw(`
    create table usage_summary (
      organization_id uuid not null,
      bucket timestamptz not null,
      customer_id text,
      provider text not null,
      model text,
      requests bigint not null,
      errors bigint not null,
      estimated_requests bigint not null,
      unpriced_requests bigint not null,
      input_tokens bigint not null,
      cache_read_tokens bigint not null,
      cache_write_tokens bigint not null,
      output_tokens bigint not null,
      reasoning_tokens bigint not null,
      list_cost_usd numeric not null,
      sell_cost_usd numeric not null,
      unique nulls not distinct (organization_id, bucket, customer_id, provider, model)
    )`)

  // One row per meter, for people and tools that read the ledger by SQL. An unpriced meter has no unit cost.
  await knex.raw(`
    create view usage_ledger as
    select
      event.organization_id,
      event.event_id,
      event.ts,
      event.customer_id,
      event.provider,
      event.model,
      line.meter as metric_type,
      line.quantity as units,
      line.unit_price_usd as unit_cost_usd,
      line.cost_usd as cost_usd,
      coalesce(late.price_version_id, event.price_version_id) as price_version_id
    from usage_event as event
    left join late_rating as late
      on late.organization_id = event.organization_id and late.event_id = event.event_id
    cross join lateral jsonb_to_recordset(
      case
        when late.event_id is null then event.lines
        else jsonb_path_query_array(event.lines, '$[*] \\? (@.unit_price_usd != null)') || late.lines
      end
    ) as line (meter text, quantity numeric, unit_price_usd numeric, cost_usd numeric)`)
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('drop view if exists usage_ledger')
  // One table a statement: old TimescaleDB refuses to drop a hypertable along with others.
  for (const table of [
    'usage_summary',
    'usage_rollup',
    'late_rating',
    'usage_event',
    'dimension_set',
    'event_key',
    'ledger_batch',
  ]) {
    await knex.raw(`drop table if exists ${table} cascade`)
  }
  await knex.raw('drop function if exists ensure_usage_partition(timestamptz)')
  await knex.raw('drop sequence if exists ledger_batch_id')
  await knex.raw('drop function if exists refuse_change() cascade')
}

interface Timescale {
  /** Compression and policies need the Timescale License; the Apache build has neither. */
  readonly hasPolicies: boolean
}

/**
 * Whether TimescaleDB can be used. Only a preloaded library may be asked for: `create extension` without it
 * kills the connection, and `pg_available_extensions` lists it even then.
 */
async function timescaleOf(knex: Knex): Promise<Timescale | undefined> {
  const preloaded = await knex.raw(
    `select current_setting('timescaledb.max_background_workers', true) is not null as yes`,
  )
  if (preloaded.rows[0]?.yes !== true) return undefined
  await knex.raw('create extension if not exists timescaledb')
  const licence = await knex.raw(`select current_setting('timescaledb.license', true) = 'timescale' as yes`)
  return { hasPolicies: licence.rows[0]?.yes === true }
}

async function makeHypertable(knex: Knex, timescale: Timescale): Promise<void> {
  await knex.raw('create schema if not exists tokentally_chunks')
  await knex.raw(`
    select create_hypertable('usage_event', 'ts',
      chunk_time_interval => interval '1 day', create_default_indexes => false,
      if_not_exists => true, migrate_data => true, associated_schema_name => 'tokentally_chunks')`)
  // The service asks for partitions before it writes; a hypertable makes its chunks by itself.
  await knex.raw(`
    create function ensure_usage_partition(at timestamptz) returns void language plpgsql as 'begin end'`)
  if (!timescale.hasPolicies) return
  await knex.raw(`
    alter table usage_event set (timescaledb.compress,
      timescaledb.compress_segmentby = 'organization_id', timescaledb.compress_orderby = 'ts, event_id')`)
  // Later than the late-arrival window; not at once, because a policy that starts with its migration races it.
  await knex.raw(`
    select add_compression_policy('usage_event', compress_after => interval '7 days',
      if_not_exists => true, initial_start => now() + interval '10 minutes')`)
}

async function partitionByMonth(knex: Knex): Promise<void> {
  // Owned by the migrating role, so that the service needs no right to create tables. "attach" instead of
  // "partition of": the latter would lock the whole ledger against readers.
  await knex.raw(`
    create function ensure_usage_partition(at timestamptz) returns void
    language plpgsql security definer set search_path from current as $$
    declare
      month_start timestamp := date_trunc('month', at at time zone 'UTC');
      partition_name text := 'usage_event_' || to_char(month_start, 'YYYY_MM');
    begin
      if to_regclass(partition_name) is not null then return; end if;
      perform pg_advisory_xact_lock(hashtext('tokentally.usage_partition'));
      -- Asked of the table itself: to_regclass answers from a cache that waiting for the lock does not refresh.
      if exists (select from pg_inherits join pg_class on pg_class.oid = inhrelid
                 where inhparent = 'usage_event'::regclass and relname = partition_name) then return; end if;
      execute format('create table %I (like usage_event including defaults including constraints)', partition_name);
      execute format('alter table usage_event attach partition %I for values from (%L) to (%L)',
        partition_name, month_start at time zone 'UTC', (month_start + interval '1 month') at time zone 'UTC');
      execute format('create trigger %I before truncate on %I for each statement execute function refuse_change()',
        partition_name || '_no_truncate', partition_name);
    end $$`)
}

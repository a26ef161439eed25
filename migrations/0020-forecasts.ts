import type { Knex } from 'knex'

/**
 * Forecasts, and budgets' alerts before the fact. New tables, and one check of `alert` that lets in a kind more: it
 * reads that table once under a lock that keeps writers out, for as long as reading it takes.
 *
 * - forecast_history  what scopes spent, a row a UTC day of 24 hours: a copy of the ledger's sums for statistics
 *                     (floats), so that a forecast an hour need not sum up three months again. May be emptied.
 * - forecast          the last forecast of a scope, and the method that its back-test chose.
 * - forecast_score    what forecasts said of the next day, week and rest of the month, and what came.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table forecast_history (
      organization_id uuid not null,
      scope text not null,
      day date not null,
      list_usd double precision[] not null check (cardinality(list_usd) = 24),
      sell_usd double precision[] not null check (cardinality(sell_usd) = 24),
      primary key (organization_id, scope, day)
    )`)
  await knex.raw(`
    create table forecast (
      organization_id uuid not null,
      scope text not null,
      basis text not null check (basis in ('list', 'sell')),
      -- the first hour that is forecast
      starts_at timestamptz not null,
      made_at timestamptz not null,
      method text not null,
      why text not null,
      contest jsonb not null,
      contest_at timestamptz not null,
      history_hours integer not null,
      -- one mean for each 24 hours ahead
      days double precision[] not null,
      sums jsonb not null,
      primary key (organization_id, scope, basis)
    )`)
  await knex.raw(`
    create table forecast_score (
      organization_id uuid not null,
      scope text not null,
      basis text not null check (basis in ('list', 'sell')),
      target text not null check (target in ('day', 'week', 'month_end')),
      starts_at timestamptz not null,
      ends_at timestamptz not null check (ends_at > starts_at),
      method text not null,
      mean_usd double precision not null,
      lo80_usd double precision not null,
      hi80_usd double precision not null,
      lo95_usd double precision not null,
      hi95_usd double precision not null,
      naive_usd double precision not null,
      actual_usd double precision,
      scored_at timestamptz,
      primary key (organization_id, scope, basis, target, starts_at)
    )`)
  await knex.raw(
    'create index forecast_score_due on forecast_score (organization_id, ends_at) where scored_at is null',
  )
  await knex.raw('create index forecast_score_age on forecast_score (organization_id, starts_at)')
  await allowKinds(knex, [...KINDS, 'budget_forecast'])
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw(
    "delete from notification_delivery where alert_id in (select alert_id from alert where kind = 'budget_forecast')",
  )
  await knex.raw("delete from alert where kind = 'budget_forecast'")
  await allowKinds(knex, KINDS)
  for (const table of ['forecast_score', 'forecast', 'forecast_history']) {
    await knex.raw(`drop table if exists ${table}`)
  }
}

const KINDS = ['budget_threshold', 'spend_anomaly', 'unpriced_usage', 'count_mismatch', 'dead_letters']

async function allowKinds(knex: Knex, kinds: readonly string[]): Promise<void> {
  await knex.raw('alter table alert drop constraint if exists alert_kind_check')
  await knex.raw(
    `alter table alert add constraint alert_kind_check check (kind in (${kinds.map((kind) => `'${kind}'`).join(', ')}))`,
  )
}

import type { Knex } from 'knex'

/**
 * Alerts, the channels that tell of them, and what was told. New tables only: locks nothing that exists. Plain
 * tables, also on TimescaleDB.
 *
 * - alert                  what fired, once: the unique key is what it is about. `details` is what was known then.
 * - notification_channel   where alerts go. The target and the signing secret are encrypted (AES-256-GCM).
 * - notification_delivery  the outbox, written in the transaction of the alert; later the delivery log. A worker
 *                          holds `leased_until` while it sends, so that no other one sends meanwhile.
 * - alert_settings         an organization's own thresholds for spend anomalies.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table alert (
      organization_id uuid not null,
      alert_id uuid not null,
      kind text not null check (
        kind in ('budget_threshold', 'spend_anomaly', 'unpriced_usage', 'count_mismatch', 'dead_letters')
      ),
      subject_key text not null,
      period_start timestamptz not null,
      period_end timestamptz not null check (period_end > period_start),
      threshold numeric not null,
      state text not null check (state in ('fired', 'acknowledged', 'snoozed', 'resolved')),
      budget_id text,
      fired_at timestamptz not null,
      acknowledged_at timestamptz,
      acknowledged_by uuid,
      snoozed_until timestamptz,
      resolved_at timestamptz,
      details jsonb not null,
      primary key (organization_id, alert_id),
      constraint alert_once unique (organization_id, kind, subject_key, period_start, threshold),
      check ((state = 'snoozed') = (snoozed_until is not null))
    )`)
  await knex.raw('create index alert_time on alert (organization_id, fired_at, alert_id)')
  await knex.raw(
    'create index alert_budget on alert (organization_id, budget_id) where budget_id is not null',
  )
  await knex.raw("create index alert_open on alert (period_end) where state <> 'resolved'")
  await knex.raw("create index alert_snoozed on alert (snoozed_until) where state = 'snoozed'")

  await knex.raw(`
    create table notification_channel (
      organization_id uuid not null,
      channel_id uuid not null,
      kind text not null check (kind in ('slack', 'teams', 'webhook', 'email')),
      name text not null check (length(name) between 1 and 200),
      target bytea not null,
      target_shown text not null,
      secret bytea,
      alert_kinds text[],
      budget_ids text[],
      scopes text[],
      min_threshold numeric,
      enabled boolean not null,
      created_at timestamptz not null,
      updated_at timestamptz not null,
      primary key (organization_id, channel_id),
      constraint notification_channel_name unique (organization_id, name)
    )`)

  await knex.raw(`
    create table notification_delivery (
      organization_id uuid not null,
      delivery_id uuid not null,
      channel_id uuid not null,
      alert_id uuid,
      cause text not null,
      message jsonb not null,
      state text not null check (state in ('pending', 'delivered', 'failed')),
      attempts integer not null default 0,
      created_at timestamptz not null,
      next_attempt_at timestamptz,
      leased_until timestamptz,
      last_attempt_at timestamptz,
      status_code integer,
      error text,
      primary key (organization_id, delivery_id),
      constraint notification_delivery_once unique (organization_id, channel_id, alert_id, cause),
      check ((state = 'pending') = (next_attempt_at is not null))
    )`)
  await knex.raw(
    'create index notification_delivery_due on notification_delivery (next_attempt_at) where next_attempt_at is not null',
  )
  await knex.raw(
    'create index notification_delivery_log on notification_delivery (organization_id, channel_id, created_at, delivery_id)',
  )

  await knex.raw(`
    create table alert_settings (
      organization_id uuid not null primary key,
      anomaly_enabled boolean not null,
      anomaly_sensitivity double precision not null check (anomaly_sensitivity > 0),
      anomaly_min_factor double precision not null check (anomaly_min_factor >= 1),
      anomaly_min_usd numeric not null check (anomaly_min_usd >= 0),
      updated_at timestamptz not null
    )`)
}

export async function down(knex: Knex): Promise<void> {
  for (const table of ['alert_settings', 'notification_delivery', 'notification_channel', 'alert']) {
    await knex.raw(`drop table if exists ${table}`)
  }
}

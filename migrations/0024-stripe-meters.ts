import type { Knex } from 'knex'

/**
 * What Stripe's billing meters were told. New tables: locks nothing that is in use.
 *
 * - stripe_metered_customer  up to which position of the ledger, and which time of usage, a customer was counted.
 * - stripe_meter_total       all that was counted, exact, and what was planned of it, in whole units. One for each value that
 *                            a meter ever counted.
 * - stripe_meter_day         what was planned for a day, and the last minute of it that an event stands at: each has a
 *                            minute of its own.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table stripe_metered_customer (
      organization_id uuid not null,
      customer_id text not null,
      usage_since timestamptz not null,
      metered_until timestamptz not null,
      position bigint not null,
      metered_at timestamptz,
      primary key (organization_id, customer_id),
      check (usage_since <= metered_until)
    )`)
  await knex.raw(`
    create table stripe_meter_total (
      organization_id uuid not null,
      customer_id text not null,
      event_name text not null,
      -- of the settings: a meter of usage, tokens, requests, sell_amount
      value text not null,
      counted numeric not null,
      sent numeric not null check (sent = trunc(sent)),
      primary key (organization_id, customer_id, event_name, value),
      foreign key (organization_id, customer_id) references stripe_metered_customer
    )`)
  await knex.raw(`
    create table stripe_meter_day (
      organization_id uuid not null,
      customer_id text not null,
      event_name text not null,
      day date not null,
      last_at timestamptz not null,
      sent numeric not null,
      primary key (organization_id, customer_id, event_name, day),
      foreign key (organization_id, customer_id) references stripe_metered_customer
    )`)
}

export async function down(knex: Knex): Promise<void> {
  for (const table of ['stripe_meter_day', 'stripe_meter_total', 'stripe_metered_customer']) {
    await knex.raw(`drop table ${table}`)
  }
}

import type { Knex } from 'knex'

/**
 * What other systems are told, step by step. New tables only: locks nothing that exists.
 *
 * - billing_system_settings  a system that the organization uses: its settings, and its secrets sealed.
 * - outbox_step              one outgoing call each. Steps of a stream are done in their order; a step is done once, whatever
 *                            is killed or times out: its idempotency key follows from what it does.
 * - stripe_event             webhooks that were received: each is worked on once, whatever order they come in.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table billing_system_settings (
      organization_id uuid not null,
      system text not null,
      is_enabled boolean not null,
      settings jsonb not null,
      -- by name, each sealed with the service's secret key
      sealed_secrets jsonb not null default '{}',
      updated_at timestamptz not null,
      primary key (organization_id, system)
    )`)
  await knex.raw(`
    create table outbox_step (
      organization_id uuid not null,
      system text not null,
      -- what the steps are about: invoice:ID, credit_note:ID, meters:CUSTOMER:POSITION
      stream text not null,
      step_no integer not null check (step_no > 0),
      action text not null,
      payload jsonb not null,
      idempotency_key text not null,
      -- refused: not tried again until a person says so
      status text not null check (status in ('waiting', 'done', 'refused')),
      attempts integer not null default 0,
      next_attempt_at timestamptz not null,
      last_error text,
      -- what the other system answered: ids
      result jsonb,
      created_at timestamptz not null,
      done_at timestamptz,
      primary key (organization_id, system, stream, step_no),
      unique (organization_id, system, idempotency_key)
    )`)
  await knex.raw("create index outbox_step_waiting on outbox_step (next_attempt_at) where status = 'waiting'")
  await knex.raw(`
    create table stripe_event (
      organization_id uuid not null,
      stripe_event_id text not null,
      type text not null,
      -- Stripe's time, which orders events of one object
      created_at timestamptz not null,
      object_id text,
      received_at timestamptz not null,
      outcome text not null,
      primary key (organization_id, stripe_event_id)
    )`)
}

export async function down(knex: Knex): Promise<void> {
  for (const table of ['stripe_event', 'outbox_step', 'billing_system_settings']) {
    await knex.raw(`drop table ${table}`)
  }
}

import type { Knex } from 'knex'

/**
 * What other systems are told, step by step. Tables of invoices are new too: locks nothing that is in use.
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
      -- invoice:ID with all that is told of it, in order; meters:CUSTOMER
      stream text not null,
      step_no integer not null check (step_no > 0),
      -- within the stream: invoice, credit_note:ID, void …
      about text not null,
      action text not null,
      payload jsonb not null,
      idempotency_key text not null,
      -- counts the keys that the other system has settled on a failure; each attempt after that uses another
      key_generation integer not null default 0,
      -- when the present key was first used; other systems forget keys after a while
      key_since timestamptz,
      -- refused: not tried again until a person says so
      status text not null check (status in ('waiting', 'done', 'refused')),
      attempts integer not null default 0,
      -- null: it waits for the step before it, or is not tried again
      next_attempt_at timestamptz,
      -- a worker has it until then; if it dies, others take over
      leased_until timestamptz,
      last_error text,
      -- what the other system answered: ids
      result jsonb,
      created_at timestamptz not null,
      done_at timestamptz,
      primary key (organization_id, system, stream, step_no),
      unique (organization_id, system, idempotency_key),
      check ((status = 'done') = (done_at is not null)),
      check (status = 'waiting' or next_attempt_at is null)
    )`)
  await knex.raw(
    'create index outbox_step_due on outbox_step (system, next_attempt_at) where next_attempt_at is not null',
  )
  await knex.raw(
    "create index outbox_step_unfinished on outbox_step (organization_id, created_at, stream, step_no) where status <> 'done'",
  )
  // When the steps that tell other systems of its voiding were written; null: not yet.
  await knex.raw('alter table invoice add column void_handed_over_at timestamptz')
  await knex.raw(
    'create index invoice_to_hand_over on invoice (organization_id, invoice_id) where finalized_at is not null and handed_over_at is null',
  )
  await knex.raw(
    "create index invoice_void_to_hand_over on invoice (organization_id, invoice_id) where status = 'void' and handed_over_at is not null and void_handed_over_at is null",
  )
  await knex.raw(
    'create index credit_note_to_hand_over on credit_note (organization_id, credit_note_id) where handed_over_at is null and voided_at is null',
  )
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
  await knex.raw('drop index credit_note_to_hand_over')
  await knex.raw('drop index invoice_void_to_hand_over')
  await knex.raw('drop index invoice_to_hand_over')
  await knex.raw('alter table invoice drop column void_handed_over_at')
}

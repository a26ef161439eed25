import type { Knex } from 'knex'

/**
 * What credit notes have settled line by line, and what Stripe's webhooks tell of payments, disputes and payouts.
 *
 * - credited_entry    also the line that an entry was credited on, and the entry's amount.
 * - stripe_event      also the facts that were read from it: what comes before what it belongs to is known is worked
 *                     on once that is.
 * - stripe_invoice    which invoice of ours one at Stripe is.
 * - stripe_payment    what an invoice at Stripe was paid with, by which disputes and failures find it.
 * - invoice_dispute   payments that the customer's bank takes back.
 *
 * Columns without a default rewrite nothing; the tables are new since 0017.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    alter table invoice
      add column last_payment_error text,
      add column last_payment_failed_at timestamptz,
      -- Stripe's time of the event that says the status; null: Stripe has said nothing yet
      add column payment_status_at timestamptz`)
  await knex.raw(`
    alter table credited_entry
      add column line_no integer not null,
      -- in the invoice's currency, not rounded; negative for what was taken back
      add column amount numeric not null`)
  await knex.raw('create index credited_entry_note on credited_entry (organization_id, credit_note_id)')
  await knex.raw(`
    alter table credit_note
      -- of what was asked for: tells a repeat from another request with the same key
      add column request_hash bytea,
      -- its id at Stripe, where it was issued there
      add column external_id text`)
  await knex.raw(
    'create index credit_note_created on credit_note (organization_id, created_at desc, credit_note_id desc)',
  )
  await knex.raw(`
    alter table payout
      add column request_hash bytea not null,
      -- Stripe's time of the event that says the status
      add column status_at timestamptz`)
  await knex.raw('create index payout_created on payout (organization_id, created_at desc, payout_id desc)')
  await knex.raw('alter table stripe_event add column facts jsonb')
  await knex.raw(
    "create index stripe_event_unknown on stripe_event (organization_id, (facts ->> 'about')) where outcome = 'unknown'",
  )
  await knex.raw(`
    create table stripe_invoice (
      organization_id uuid not null,
      stripe_invoice_id text not null,
      invoice_id uuid not null,
      primary key (organization_id, stripe_invoice_id),
      foreign key (organization_id, invoice_id) references invoice
    )`)
  await knex.raw('create index stripe_invoice_invoice on stripe_invoice (organization_id, invoice_id)')
  await knex.raw(`
    create table stripe_payment (
      organization_id uuid not null,
      -- a payment intent, or a charge without one
      payment_id text not null,
      -- null: not known yet
      stripe_invoice_id text,
      last_error text,
      last_failed_at timestamptz,
      primary key (organization_id, payment_id)
    )`)
  await knex.raw('create index stripe_payment_invoice on stripe_payment (organization_id, stripe_invoice_id)')
  await knex.raw(`
    create table invoice_dispute (
      organization_id uuid not null,
      dispute_id text not null,
      payment_id text not null,
      amount numeric not null,
      currency text not null,
      reason text not null,
      status text not null,
      -- Stripe's time of the event that says the status
      status_at timestamptz not null,
      primary key (organization_id, dispute_id)
    )`)
  await knex.raw('create index invoice_dispute_payment on invoice_dispute (organization_id, payment_id)')
}

export async function down(knex: Knex): Promise<void> {
  for (const table of ['invoice_dispute', 'stripe_payment', 'stripe_invoice']) {
    await knex.raw(`drop table ${table}`)
  }
  await knex.raw('drop index stripe_event_unknown')
  await knex.raw('alter table stripe_event drop column facts')
  await knex.raw('drop index payout_created')
  await knex.raw('alter table payout drop column request_hash, drop column status_at')
  await knex.raw('drop index credit_note_created')
  await knex.raw('alter table credit_note drop column request_hash, drop column external_id')
  await knex.raw('drop index credited_entry_note')
  await knex.raw('alter table credited_entry drop column line_no, drop column amount')
  await knex.raw(`
    alter table invoice
      drop column last_payment_error, drop column last_payment_failed_at, drop column payment_status_at`)
}

import type { Knex } from 'knex'

/**
 * Billing profiles, invoices, credit notes and payouts.
 *
 * - ledger_batch.position  when a cycle is closed, the batches that are there get the next position. Which entries an
 *                          invoice is made of is settled by it for good, whatever commits later.
 * - invoice                one row for each customer and cycle. What belongs to it is settled when the row is written;
 *                          its lines are computed from the ledger then.
 * - invoice_line           append-only; a draft that is computed anew gets lines of a new revision.
 * - credited_entry         entries of corrections that a credit note has settled: no later invoice has them.
 *
 * Locks ledger_batch exclusively for a moment: a column without a default rewrites nothing. The index reads it once and
 * holds off writers meanwhile.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw('alter table ledger_batch add column position bigint')
  await knex.raw(
    'create index ledger_batch_unpositioned on ledger_batch (organization_id) where position is null',
  )
  await knex.raw('create index ledger_batch_position on ledger_batch (organization_id, position)')
  await knex.raw(`
    create table ledger_position (
      organization_id uuid not null,
      position bigint not null check (position > 0),
      taken_at timestamptz not null,
      primary key (organization_id, position)
    )`)
  await knex.raw(`
    create table billing_profile (
      organization_id uuid not null,
      customer_id text not null,
      definition jsonb not null,
      created_at timestamptz not null,
      updated_at timestamptz not null,
      primary key (organization_id, customer_id)
    )`)
  await knex.raw(`
    create table invoice (
      organization_id uuid not null,
      invoice_id uuid not null,
      customer_id text not null,
      number text,
      status text not null check (status in ('pending', 'draft', 'blocked', 'open', 'paid', 'void', 'uncollectible')),
      reason text,
      notes jsonb not null default '[]',
      -- the query that made it
      usage_since timestamptz not null,
      period_start timestamptz not null,
      period_end timestamptz not null,
      previous_position bigint,
      position bigint not null,
      -- the voided invoice that this one stands in for; null: the first of its cycle
      replaces_invoice_id uuid,
      currency text not null check (currency ~ '^[A-Z]{3}$'),
      profile jsonb not null,
      revision integer not null default 0,
      total numeric not null default 0,
      created_at timestamptz not null,
      finalized_at timestamptz,
      due_at timestamptz,
      paid_at timestamptz,
      voided_at timestamptz,
      -- when the steps that tell other systems of it were written; null: not yet
      handed_over_at timestamptz,
      primary key (organization_id, invoice_id),
      unique (organization_id, number),
      unique nulls not distinct (organization_id, customer_id, period_start, replaces_invoice_id),
      check (period_start < period_end and usage_since <= period_start),
      check ((number is not null) = (finalized_at is not null)),
      check ((status = 'blocked') = (reason is not null))
    )`)
  await knex.raw(
    'create index invoice_created on invoice (organization_id, created_at desc, invoice_id desc)',
  )
  await knex.raw(
    "create index invoice_unfinished on invoice (organization_id) where status = 'pending' or (status = 'open' and handed_over_at is null)",
  )
  await knex.raw(`
    create table invoice_number (
      organization_id uuid not null,
      -- 'INV-2026', 'CN-2026'
      series text not null,
      last_number integer not null,
      primary key (organization_id, series)
    )`)
  await knex.raw(`
    create table invoice_line (
      organization_id uuid not null,
      invoice_id uuid not null,
      revision integer not null,
      line_no integer not null check (line_no > 0),
      kind text not null check (kind in ('usage', 'allowance', 'discount', 'minimum', 'carried_out', 'carried_in')),
      description text not null,
      is_late boolean not null,
      keys jsonb not null,
      events bigint not null,
      quantity numeric not null,
      list_cost_usd numeric not null,
      sell_cost_usd numeric not null,
      conversions jsonb not null,
      exact_amount numeric not null,
      amount numeric not null,
      primary key (organization_id, invoice_id, revision, line_no),
      foreign key (organization_id, invoice_id) references invoice
    )`)
  await knex.raw(`
    create table credit_note (
      organization_id uuid not null,
      credit_note_id uuid not null,
      invoice_id uuid not null,
      number text not null,
      reason text not null check (reason <> ''),
      -- the correction that it settles; null: issued by hand
      correction_id uuid,
      currency text not null,
      total numeric not null check (total > 0),
      -- who issued it; null: another system did
      api_key_id uuid,
      idempotency_key text not null,
      created_at timestamptz not null,
      voided_at timestamptz,
      handed_over_at timestamptz,
      primary key (organization_id, credit_note_id),
      unique (organization_id, number),
      unique (organization_id, idempotency_key),
      foreign key (organization_id, invoice_id) references invoice
    )`)
  await knex.raw('create index credit_note_invoice on credit_note (organization_id, invoice_id)')
  await knex.raw(`
    create table credit_note_line (
      organization_id uuid not null,
      credit_note_id uuid not null,
      line_no integer not null,
      amount numeric not null check (amount > 0),
      primary key (organization_id, credit_note_id, line_no),
      foreign key (organization_id, credit_note_id) references credit_note
    )`)
  await knex.raw(`
    create table credited_entry (
      organization_id uuid not null,
      -- a reversal or replacement of the ledger
      event_id text not null,
      credit_note_id uuid not null,
      primary key (organization_id, event_id),
      foreign key (organization_id, credit_note_id) references credit_note
    )`)
  await knex.raw(`
    create table payout (
      organization_id uuid not null,
      payout_id uuid not null,
      -- whom it goes to: the owner of a model, as the organization names them
      recipient text not null check (recipient <> ''),
      amount numeric not null check (amount > 0),
      currency text not null check (currency ~ '^[A-Z]{3}$'),
      status text not null check (status in ('pending', 'in_transit', 'paid', 'failed', 'canceled')),
      failure_reason text,
      -- the payout's or transfer's id at Stripe, by which webhooks find it
      external_id text,
      period_start timestamptz,
      period_end timestamptz,
      note text,
      idempotency_key text not null,
      api_key_id uuid not null,
      arrival_date date,
      created_at timestamptz not null,
      updated_at timestamptz not null,
      primary key (organization_id, payout_id),
      unique (organization_id, external_id),
      unique (organization_id, idempotency_key)
    )`)
  for (const table of ['invoice_line', 'credit_note_line', 'credited_entry', 'ledger_position']) {
    await knex.raw(
      `create trigger ${table}_append_only before update or delete on ${table} for each row execute function refuse_change()`,
    )
    await knex.raw(
      `create trigger ${table}_no_truncate before truncate on ${table} for each statement execute function refuse_change()`,
    )
  }
}

export async function down(knex: Knex): Promise<void> {
  for (const table of [
    'payout',
    'credited_entry',
    'credit_note_line',
    'credit_note',
    'invoice_line',
    'invoice_number',
    'invoice',
    'billing_profile',
    'ledger_position',
  ]) {
    await knex.raw(`drop table ${table}`)
  }
  await knex.raw('drop index ledger_batch_position')
  await knex.raw('drop index ledger_batch_unpositioned')
  await knex.raw('alter table ledger_batch drop column position')
}

import type { Knex } from 'knex'

/**
 * Policies, and prepaid credit. New tables only: locks nothing that exists.
 *
 * - policy         the policies that were applied last, in the order of their file.
 * - credit_account a customer who pays ahead. Usage is the ledger's sell cost from `start_day` (a UTC midnight)
 *                  on, less `used_before_usd`: what that day had cost already when credit was switched on.
 * - credit_entry   what was paid in or adjusted: append-only. The balance is a sum and is kept nowhere.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table policy (
      organization_id uuid not null,
      name text not null,
      position integer not null,
      definition jsonb not null,
      applied_at timestamptz not null,
      primary key (organization_id, name)
    )`)
  await knex.raw(`
    create table credit_account (
      organization_id uuid not null,
      customer_id text not null,
      start_day timestamptz not null,
      used_before_usd numeric not null,
      started_at timestamptz not null,
      -- {"threshold": "10", "amount": "50", "max_per_month": 3}; null: no auto-refill
      auto_refill jsonb,
      updated_at timestamptz not null,
      primary key (organization_id, customer_id)
    )`)
  await knex.raw(`
    create table credit_entry (
      organization_id uuid not null,
      customer_id text not null,
      entry_id uuid not null,
      -- order of entry
      sequence bigint generated always as identity,
      kind text not null check (kind in ('top_up', 'adjustment', 'auto_refill')),
      amount_usd numeric not null check (amount_usd <> 0 and (kind = 'adjustment' or amount_usd > 0)),
      idempotency_key text not null,
      note text,
      api_key_id uuid,
      created_at timestamptz not null,
      primary key (organization_id, customer_id, entry_id),
      unique (organization_id, customer_id, idempotency_key)
    )`)
  await knex.raw(
    'create trigger credit_entry_append_only before update or delete on credit_entry for each row execute function refuse_change()',
  )
  await knex.raw(
    'create trigger credit_entry_no_truncate before truncate on credit_entry for each statement execute function refuse_change()',
  )
}

export async function down(knex: Knex): Promise<void> {
  for (const table of ['credit_entry', 'credit_account', 'policy']) await knex.raw(`drop table ${table}`)
}

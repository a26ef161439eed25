import type { Knex } from 'knex'

/**
 * Budgets. New tables only: locks nothing that exists.
 *
 * - budget          the budget in force. Deleted ones stay, so that alerts and holds of the past can name them.
 * - budget_version  what each budget said from when on, and by whose key: append-only, one row per change.
 * - budget_revision grows in the transaction of every change of budgets, policies or credit, so that every
 *                   replica can tell whether the decisions that it hands out are those in force.
 *
 * What a budget says is kept as the JSON of the API, whose amounts are decimal text. Spending is nowhere here:
 * it is the sum of the ledger.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table budget (
      organization_id uuid not null,
      budget_id uuid not null,
      name text not null,
      version integer not null check (version > 0),
      definition jsonb not null,
      source text not null check (source in ('api', 'policies')),
      created_at timestamptz not null,
      updated_at timestamptz not null,
      deleted_at timestamptz,
      primary key (organization_id, budget_id)
    )`)
  await knex.raw('create unique index budget_name on budget (organization_id, name) where deleted_at is null')
  await knex.raw(`
    create table budget_version (
      organization_id uuid not null,
      budget_id uuid not null,
      version integer not null,
      -- null: the budget was deleted
      definition jsonb,
      source text not null,
      api_key_id uuid,
      created_at timestamptz not null,
      primary key (organization_id, budget_id, version)
    )`)
  await knex.raw(
    'create trigger budget_version_append_only before update or delete on budget_version for each row execute function refuse_change()',
  )
  await knex.raw(
    'create trigger budget_version_no_truncate before truncate on budget_version for each statement execute function refuse_change()',
  )
  await knex.raw(`
    create table budget_revision (
      organization_id uuid primary key,
      revision bigint not null
    )`)
}

export async function down(knex: Knex): Promise<void> {
  for (const table of ['budget_revision', 'budget_version', 'budget']) await knex.raw(`drop table ${table}`)
}

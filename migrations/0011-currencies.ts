import type { Knex } from 'knex'

/**
 * What customers pay in, and exchange rates. New tables only: locks nothing that exists. Both are append-only:
 * rated events keep the rate that they were sold by, and a new setting or rate is a new row.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table fx_rate (
      -- null: fetched by the service, for every organization
      organization_id uuid,
      -- who publishes it: 'ecb', or a name of the organization's own
      source text not null check (source <> ''),
      currency text not null check (currency ~ '^[A-Z]{3}$' and currency <> 'EUR'),
      -- from when on it is the last one; of a daily rate the beginning of its day, UTC
      valid_from timestamptz not null,
      units_per_eur numeric not null check (units_per_eur > 0),
      created_at timestamptz not null default now(),
      unique nulls not distinct (organization_id, source, currency, valid_from)
    )`)
  await knex.raw(`
    create table customer_currency (
      organization_id uuid not null,
      customer_id text not null,
      -- order of entry
      sequence bigint generated always as identity,
      currency text not null check (currency ~ '^[A-Z]{3}$'),
      source text not null,
      effective_from timestamptz not null,
      -- who set it
      api_key_id uuid not null,
      primary key (organization_id, customer_id, sequence)
    )`)
  for (const table of ['fx_rate', 'customer_currency']) {
    await knex.raw(
      `create trigger ${table}_append_only before update or delete on ${table} for each row execute function refuse_change()`,
    )
    await knex.raw(
      `create trigger ${table}_no_truncate before truncate on ${table} for each statement execute function refuse_change()`,
    )
  }
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('drop table customer_currency')
  await knex.raw('drop table fx_rate')
}

import type { Knex } from 'knex'

/**
 * For which calls of its model a price is, discounts off the catalogue, and what refreshes of the catalogue found.
 *
 * Locks price_version exclusively for a moment: columns without a default rewrite nothing.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    alter table price_version
      -- null in each of these: for any call
      add column service_tier text,
      add column region text,
      add column customer_id text,
      add column input_tokens_max bigint check (input_tokens_max >= 0),
      -- a fraction off the catalogue's price, instead of rates of its own
      add column discount numeric check (discount between 0 and 1),
      add check (discount is null or (organization_id is not null and rates = '{}'::jsonb)),
      add check (customer_id is null or organization_id is not null)`)
  await knex.raw(`
    -- A newer catalogue that was looked at. The catalogue is every organization's: no organization_id.
    create table price_refresh (
      id uuid primary key,
      fetched_at timestamptz not null,
      source text not null,
      -- pending: recorded, about to take effect; waiting: some models wait for a person
      status text not null check (status in ('pending', 'waiting', 'applied', 'rejected')),
      sequence bigint generated always as identity unique
    )`)
  await knex.raw(`
    -- One model whose prices the refresh would change.
    create table price_refresh_model (
      refresh_id uuid not null references price_refresh (id),
      provider text not null,
      model text not null,
      -- '': the standard tier
      service_tier text not null,
      is_new boolean not null,
      -- superseded: a later refresh said something else before anyone decided
      status text not null check (status in ('pending', 'waiting', 'applied', 'rejected', 'superseded')),
      -- by meter: what it costs, what it would cost, by how much that is more
      changes jsonb not null,
      -- the catalogue's entry, to be entered once it is approved
      entry jsonb not null,
      decided_at timestamptz,
      -- the key of the person who decided; null: nobody had to
      decided_by uuid,
      primary key (refresh_id, provider, model, service_tier)
    )`)
  await knex.raw(
    "create index price_refresh_model_open on price_refresh_model (provider, model, service_tier) where status in ('pending', 'waiting')",
  )
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('drop table price_refresh_model')
  await knex.raw('drop table price_refresh')
  // Without their conditions these would be prices for every call. Rated events keep their amounts.
  await knex.raw('alter table price_version disable trigger price_version_is_append_only')
  await knex.raw(`
    delete from price_version
    where service_tier is not null or region is not null or customer_id is not null
      or input_tokens_max is not null or discount is not null`)
  await knex.raw('alter table price_version enable trigger price_version_is_append_only')
  await knex.raw(`
    alter table price_version
      drop column service_tier, drop column region, drop column customer_id, drop column input_tokens_max,
      drop column discount`)
}

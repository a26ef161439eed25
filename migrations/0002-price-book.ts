import type { Knex } from 'knex'

/**
 * The price book. A price version is never changed or removed: rated events name the version that they were
 * rated by, and a new price is a new row. Locks nothing that exists.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table price_version (
      id uuid primary key,
      -- null: the catalogue, the list price for every organization
      organization_id uuid,
      provider text not null check (provider <> ''),
      -- '': for events without a model
      model text not null,
      match jsonb not null,
      -- null: as far back as one can ask
      effective_from timestamptz,
      -- {"startUtc": "HH:MM:SS", "endUtc": "HH:MM:SS"}; null: all day
      time_of_day jsonb,
      -- by meter: {"input_tokens": {"per": 1000000, "price": "0.15", "tiers": [...]}}; prices are text, exact
      rates jsonb not null,
      source text not null,
      -- catalogue only: the same for all prices of a model that one import entered together
      edition text,
      -- order of entry: of several catalogue prices of a model that apply, the last wins
      sequence bigint generated always as identity unique,
      created_at timestamptz not null default now(),
      check ((organization_id is null) = (edition is not null))
    );

    create index price_version_by_model on price_version (organization_id, provider, model, sequence);

    create trigger price_version_is_append_only
      before update or delete on price_version
      for each row execute function refuse_change();

    create trigger price_version_is_not_truncated
      before truncate on price_version
      for each statement execute function refuse_change();

    -- One row. The revision grows in the transaction that adds a price, so that every replica can tell
    -- whether the price book it holds is the one in force.
    create table price_book (
      id int primary key check (id = 1),
      revision bigint not null
    );
    insert into price_book (id, revision) values (1, 0);
  `)
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('drop table price_book; drop table price_version')
}

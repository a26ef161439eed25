import type { Knex } from 'knex'

/**
 * What vendors say was used and what it cost. New tables only: locks nothing that exists.
 *
 * - vendor_import      a file or an answer of a vendor's API. A newer one stands for its days in place of older ones of the
 *                      same source and part; those are kept, and count again when it is removed.
 * - vendor_row         its figures, summed up by what tells them apart.
 * - vendor_connection  where a vendor is asked, and the admin key, sealed.
 * - vendor_coverage    how much of a vendor's figures the ledger had when it was last compared.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table vendor_import (
      organization_id uuid not null,
      import_id uuid not null,
      -- the order of imports: the later one of a day counts
      import_no bigint generated always as identity,
      source text not null,
      vendor text not null,
      -- what tells files of the same source and days apart that stand beside each other: an endpoint, an account
      part text not null,
      origin text not null check (origin in ('file', 'api')),
      content_sha256 bytea not null,
      -- the days that it tells of, in order
      days date[] not null check (cardinality(days) > 0),
      lines bigint not null,
      ignored_lines bigint not null,
      created_at timestamptz not null,
      api_key_id uuid,
      removed_at timestamptz,
      primary key (organization_id, import_id)
    )`)
  await knex.raw(`
    create unique index vendor_import_once on vendor_import (organization_id, source, part, content_sha256)
    where removed_at is null and origin = 'file'`)
  await knex.raw('create index vendor_import_order on vendor_import (organization_id, import_no)')
  await knex.raw(`
    create table vendor_row (
      organization_id uuid not null,
      import_id uuid not null,
      row_no integer not null,
      day date not null,
      kind text not null check (kind in ('usage', 'credit', 'discount', 'tax', 'other')),
      model text,
      meter text,
      service_tier text,
      key_id text,
      project_id text,
      quantity numeric,
      cost_usd numeric,
      lines integer not null,
      primary key (organization_id, import_id, row_no),
      foreign key (organization_id, import_id) references vendor_import on delete cascade
    )`)
  await knex.raw('create index vendor_row_day on vendor_row (organization_id, import_id, day)')
  await knex.raw(`
    create table vendor_connection (
      organization_id uuid not null,
      vendor text not null,
      base_url text,
      -- null: files alone
      sealed_key bytea,
      key_shown text,
      -- the vendor's keys and projects whose calls are metered; null: not stated
      metered_keys text[],
      is_enabled boolean not null,
      updated_at timestamptz not null,
      last_fetched_at timestamptz,
      last_error text,
      primary key (organization_id, vendor)
    )`)
  await knex.raw(`
    create table vendor_coverage (
      organization_id uuid not null,
      vendor text not null,
      -- shares from 0 to 1; null: the vendor says nothing of it
      tokens_ratio numeric,
      cost_ratio numeric,
      computed_at timestamptz not null,
      primary key (organization_id, vendor)
    )`)
}

export async function down(knex: Knex): Promise<void> {
  for (const table of ['vendor_coverage', 'vendor_connection', 'vendor_row', 'vendor_import']) {
    await knex.raw(`drop table ${table}`)
  }
}

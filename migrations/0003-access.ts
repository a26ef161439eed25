import type { Knex } from 'knex'

/** Organizations, and the API keys that speak for them. Of a key only the SHA-256 hash is kept. */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table organization (
      id uuid primary key default gen_random_uuid(),
      name text not null unique check (length(name) between 1 and 200),
      created_at timestamptz not null default now()
    )
  `)
  await knex.raw(`
    create table api_key (
      organization_id uuid not null references organization (id),
      id uuid not null default gen_random_uuid(),
      name text not null check (length(name) between 1 and 200),
      key_hash bytea not null unique check (octet_length(key_hash) = 32),
      scopes text[] not null check (
        cardinality(scopes) > 0 and scopes <@ array['ingest', 'read', 'write', 'admin']
      ),
      created_at timestamptz not null default now(),
      revoked_at timestamptz,
      primary key (organization_id, id)
    )
  `)
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('drop table api_key')
  await knex.raw('drop table organization')
}

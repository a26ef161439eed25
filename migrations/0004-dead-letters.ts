import type { Knex } from 'knex'

/**
 * Events that could not become ledger entries, kept so that they can be replayed once the cause is mended.
 * A new table: locks nothing that exists. Never holds text beyond the usage event's own fields.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table dead_letter (
      organization_id uuid not null,
      dead_letter_id uuid not null,
      received_at timestamptz not null,
      door text not null check (door in ('usage', 'traces')),
      event_id text,
      content jsonb,
      content_hash bytea not null,
      body_bytes integer,
      issues jsonb not null,
      replayed_at timestamptz,
      primary key (organization_id, dead_letter_id),
      unique (organization_id, content_hash)
    )`)
  await knex.raw(
    'create index dead_letter_open on dead_letter (organization_id, received_at) where replayed_at is null',
  )
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('drop table if exists dead_letter')
}

import type { Knex } from 'knex'

/**
 * Corrections: what was mended, by whom and why. New tables only: locks nothing that exists.
 *
 * - correction         one row for each correction that was applied, with its sums before and after.
 * - correction_target  the events that were taken back. Its primary key is the rule that an event is taken back
 *                      once: the ledger itself could not hold such a key without its time column.
 *
 * The entries themselves are events of the ledger (`entry_kind`, `corrects_event_id`, `correction_id`).
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table correction (
      organization_id uuid not null,
      correction_id uuid not null,
      reason text not null check (reason <> ''),
      -- who asked for it
      api_key_id uuid not null,
      -- as they were asked for
      selection jsonb not null,
      change jsonb not null,
      request_hash bytea not null,
      created_at timestamptz not null,
      -- events that were taken back; each has a replacement, unless it was void
      event_count integer not null check (event_count > 0),
      replacement_count integer not null check (replacement_count in (0, event_count)),
      unchanged_count integer not null,
      -- sums of the events before, and of what stands in for them
      before jsonb not null,
      after jsonb not null,
      primary key (organization_id, correction_id)
    )`)
  await knex.raw(
    'create index correction_created on correction (organization_id, created_at desc, correction_id desc)',
  )
  await knex.raw(`
    create table correction_target (
      organization_id uuid not null,
      event_id text not null,
      correction_id uuid not null,
      -- null: the event is void, nothing stands in for it
      replacement_event_id text,
      primary key (organization_id, event_id),
      foreign key (organization_id, correction_id) references correction deferrable initially deferred
    )`)
  for (const table of ['correction', 'correction_target']) {
    await knex.raw(
      `create trigger ${table}_append_only before update or delete on ${table} for each row execute function refuse_change()`,
    )
    await knex.raw(
      `create trigger ${table}_no_truncate before truncate on ${table} for each statement execute function refuse_change()`,
    )
  }
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('drop table correction_target')
  await knex.raw('drop table correction')
}

import type { Knex } from 'knex'

/**
 * Holds: upper bounds reserved for calls that are under way. A new table only: locks nothing that exists.
 *
 * A hold counts while `closed_at` is null, its event is not in `event_key`, and it is settled or not expired yet;
 * settled, it counts with the settled amounts. Queries judge that by themselves: `closed_at` is set later, by
 * the sweep, and only keeps the partial index small.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table hold (
      organization_id uuid not null,
      hold_id uuid not null,
      event_id text not null,
      customer_id text,
      user_id text,
      team_id text,
      project_id text,
      business_unit text,
      cost_center text,
      feature text,
      agent text,
      environment text,
      provider text not null,
      model text,
      api_key_id uuid not null,
      tags jsonb,
      list_usd numeric not null check (list_usd >= 0),
      sell_usd numeric not null check (sell_usd >= 0),
      -- how the amounts came about
      bound jsonb not null,
      created_at timestamptz not null,
      expires_at timestamptz not null,
      released_at timestamptz,
      settled_at timestamptz,
      settled_list_usd numeric check (settled_list_usd >= 0),
      settled_sell_usd numeric check (settled_sell_usd >= 0),
      closed_at timestamptz,
      primary key (organization_id, hold_id),
      check ((settled_at is null) = (settled_list_usd is null)),
      check ((settled_at is null) = (settled_sell_usd is null))
    )`)
  await knex.raw('create index hold_open on hold (organization_id, expires_at) where closed_at is null')
  await knex.raw('create index hold_event on hold (organization_id, event_id)')
  await knex.raw('create index hold_closed on hold (closed_at) where closed_at is not null')
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('drop table hold')
}

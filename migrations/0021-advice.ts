import type { Knex } from 'knex'

/**
 * Advice. New tables only: locks nothing that exists.
 *
 * - advice_setting  what people edit: alternatives to models, offers of commitments, commitments that are owned.
 * - recommendation  what was found, one row for each kind, scope and subject; computed anew in place, under the same id.
 * - advice_run      when an organization's recommendations were computed last.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table advice_setting (
      organization_id uuid not null,
      name text not null check (name in ('model_alternatives', 'commitment_offers', 'commitments')),
      definition jsonb not null,
      updated_at timestamptz not null,
      api_key_id uuid not null,
      primary key (organization_id, name)
    )`)
  await knex.raw(`
    create table recommendation (
      organization_id uuid not null,
      -- made of kind, scope and subject
      recommendation_id uuid not null,
      kind text not null,
      scope_dimension text not null,
      -- null: the organization itself
      scope_value text,
      subject jsonb not null,
      alternative jsonb not null,
      -- of 30 days
      saving_usd numeric not null,
      saving_low_usd numeric not null,
      saving_high_usd numeric not null,
      confidence text not null check (confidence in ('high', 'medium')),
      events bigint not null,
      computation jsonb not null,
      sample_event_ids text[] not null,
      first_seen_at timestamptz not null,
      computed_at timestamptz not null,
      -- found by the last run
      is_current boolean not null,
      dismissed_at timestamptz,
      dismissed_by uuid,
      dismissed_reason text,
      primary key (organization_id, recommendation_id),
      check ((dismissed_at is null) = (dismissed_by is null))
    )`)
  await knex.raw(
    'create index recommendation_saving on recommendation (organization_id, saving_usd desc, recommendation_id) where is_current',
  )
  await knex.raw(`
    create table advice_run (
      organization_id uuid not null,
      computed_at timestamptz not null,
      window_start timestamptz not null,
      window_end timestamptz not null,
      primary key (organization_id)
    )`)
}

export async function down(knex: Knex): Promise<void> {
  for (const table of ['advice_run', 'recommendation', 'advice_setting']) {
    await knex.raw(`drop table ${table}`)
  }
}

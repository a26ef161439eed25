import type { Knex } from 'knex'

/**
 * What was last measured of each tokenizer against its provider: shown in the metrics, and remembered so that a
 * change is told once. Made anew from usage_event by a job, at any time.
 *
 * The index holds the sampled events alone; making it reads the table once and holds off writers
 * meanwhile.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table tokenizer_drift (
      organization_id uuid not null,
      tokenizer text not null,
      provider text not null,
      model text not null,
      events integer not null check (events >= 0),
      reported_tokens bigint not null check (reported_tokens >= 0),
      counted_tokens bigint not null check (counted_tokens >= 0),
      is_drifting boolean not null,
      measured_at timestamptz not null,
      primary key (organization_id, tokenizer, provider, model)
    )`)
  await knex.raw(`
    create index usage_event_counted on usage_event (organization_id, ts)
      where counted_input_tokens is not null or counted_output_tokens is not null`)
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('drop index usage_event_counted')
  await knex.raw('drop table tokenizer_drift')
}

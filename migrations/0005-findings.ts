import type { Knex } from 'knex'

/**
 * What was found out about an event beside its counts: why it is estimated or failed, how the provider's counts
 * contradict each other, the provider's own usage and cost, and what a tokenizer made of it.
 *
 * Locks usage_event exclusively for a moment: columns without a default rewrite nothing, in compressed chunks
 * neither. The index is made over few rows, but reads the table once and holds off writers meanwhile.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    alter table usage_event
      add column reason text,
      add column mismatch text,
      add column vendor_usage jsonb,
      add column reported_cost_usd numeric,
      add column tokenizer text,
      add column counted_input_tokens bigint,
      add column counted_output_tokens bigint`)
  await knex.raw(
    'create index usage_event_mismatch on usage_event (organization_id, ts) where mismatch is not null',
  )
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('drop index usage_event_mismatch')
  await knex.raw(`
    alter table usage_event
      drop column reason, drop column mismatch, drop column vendor_usage, drop column reported_cost_usd,
      drop column tokenizer, drop column counted_input_tokens, drop column counted_output_tokens`)
}

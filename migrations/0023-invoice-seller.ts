import type { Knex } from 'knex'

/**
 * Who issues an organization's invoices. Append-only: a document of an invoice shows the settings that were in force
 * when it was finalized. A new table only: locks nothing that exists.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table invoice_seller (
      organization_id uuid not null,
      setting_id bigint generated always as identity,
      set_at timestamptz not null,
      definition jsonb not null,
      api_key_id uuid not null,
      primary key (organization_id, setting_id)
    )`)
  await knex.raw(
    'create trigger invoice_seller_append_only before update or delete on invoice_seller for each row execute function refuse_change()',
  )
  await knex.raw(
    'create trigger invoice_seller_no_truncate before truncate on invoice_seller for each statement execute function refuse_change()',
  )
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('drop table invoice_seller')
}

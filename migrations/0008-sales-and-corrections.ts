import type { Knex } from 'knex'

/**
 * What an event was sold for and how: the markup rule, the currency and exchange rate. And entries that mend
 * others: a reversal takes an event back, a replacement stands in for it.
 *
 * A reversal keeps the amounts of what it takes back, and `entry_kind` says that they count negatively: the
 * ledger's checks against negative amounts stay, which could not be dropped while chunks are compressed.
 *
 * Locks usage_event exclusively for a moment: columns without a default rewrite nothing. The indexes are made
 * over no rows, but read the table once and hold off writers meanwhile.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    alter table usage_event
      add column markup_rule_id uuid,
      add column sell_currency text,
      add column fx_rate numeric,
      add column fx_date date,
      add column entry_kind text,
      add column corrects_event_id text,
      add column correction_id uuid,
      add column api_key_id uuid`)
  await knex.raw(`
    alter table late_rating
      add column markup_rule_id uuid,
      add column sell_currency text,
      add column fx_rate numeric,
      add column fx_date date`)
  await knex.raw(
    'create index usage_event_correction on usage_event (organization_id, correction_id, ts) where correction_id is not null',
  )
  await knex.raw(viewOfLedger("case event.entry_kind when 'reversal' then -1 else 1 end", true))
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('drop view usage_ledger')
  await knex.raw(viewOfLedger('1', false))
  await knex.raw('drop index usage_event_correction')
  await knex.raw(`
    alter table late_rating
      drop column markup_rule_id, drop column sell_currency, drop column fx_rate, drop column fx_date`)
  await knex.raw(`
    alter table usage_event
      drop column markup_rule_id, drop column sell_currency, drop column fx_rate, drop column fx_date,
      drop column entry_kind, drop column corrects_event_id, drop column correction_id, drop column api_key_id`)
}

function viewOfLedger(sign: string, withKind: boolean): string {
  return `
    create or replace view usage_ledger as
    select
      event.organization_id,
      event.event_id,
      event.ts,
      event.customer_id,
      event.provider,
      event.model,
      line.meter as metric_type,
      ${sign} * line.quantity as units,
      line.unit_price_usd as unit_cost_usd,
      ${sign} * line.cost_usd as cost_usd,
      coalesce(late.price_version_id, event.price_version_id) as price_version_id${
        withKind ? ',\n      event.entry_kind,\n      event.corrects_event_id' : ''
      }
    from usage_event as event
    left join late_rating as late
      on late.organization_id = event.organization_id and late.event_id = event.event_id
    cross join lateral jsonb_to_recordset(
      case
        when late.event_id is null then event.lines
        else jsonb_path_query_array(event.lines, '$[*] \\? (@.unit_price_usd != null)') || late.lines
      end
    ) as line (meter text, quantity numeric, unit_price_usd numeric, cost_usd numeric)`
}

import {
  appliedRate,
  type Decimal,
  decimal,
  decimalText,
  type Invoice,
  type InvoiceLine,
  type LineConversion,
  ZERO,
} from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { type EntriesScope, entriesParameters, entriesSql, LINE_COLUMNS } from './entries.ts'

/** From invoice lines to the entries that they are made of, and back. */

/** What an invoice selects. */
export function scopeOf({ organizationId, customer, selection }: Invoice): EntriesScope {
  return { organizationId, customers: [{ customer, sinceMs: selection.sinceMs }], selection }
}

/**
 * What a sum or an entry of a line is in the invoice's currency, exact: at the rates that the line was computed with.
 */
export function amountOf(
  currency: string,
  conversions: readonly LineConversion[],
  sold: { readonly sellCostUsd: string; readonly soldIn: string; readonly rate: string | null },
): Decimal {
  const converted = conversions.find(({ soldIn }) => soldIn === sold.soldIn && soldIn !== currency)
  const invoiceRate =
    converted === undefined ? undefined : { rate: converted.rate, rateDate: converted.rateDate ?? '' }
  const applied = appliedRate(currency, { soldIn: sold.soldIn, rate: sold.rate, rateDate: null }, invoiceRate)
  const sellCostUsd = decimal(sold.sellCostUsd)
  if (sellCostUsd.eq(ZERO)) return ZERO
  if (applied === undefined) throw new Error(`the line has no rate for what was sold in ${sold.soldIn}`)
  return sellCostUsd.times(decimal(applied.rate))
}

/** An entry of a line. */
export interface LineEntry {
  readonly ts: Date
  readonly eventId: string
  /** `late_rating`: the price of an event that had none when it arrived. */
  readonly source: 'event' | 'late_rating'
  readonly entryKind: 'usage' | 'reversal' | 'replacement'
  readonly providerRequestId: string | null
  readonly priceVersionId: string | null
  readonly markupRuleId: string | null
  /** Decimal text; of a line by meter, that meter's part. Negative where an event is taken back. */
  readonly quantity: string
  readonly listCostUsd: string
  readonly sellCostUsd: string
  readonly soldIn: string
  readonly rate: string | null
  readonly rateDate: string | null
  /** In the invoice's currency, not rounded. */
  readonly amount: string
}

/** Where a page ended. */
export interface EntryPosition {
  readonly ts: Date
  readonly eventId: string
  readonly source: string
}

interface EntryRow {
  readonly ts: Date
  readonly event_id: string
  readonly source: LineEntry['source']
  readonly entry_kind: LineEntry['entryKind']
  readonly provider_request_id: string | null
  readonly price_version_id: string | null
  readonly markup_rule_id: string | null
  readonly quantity: string
  readonly list_cost_usd: string
  readonly sell_cost_usd: string
  readonly sell_currency: string | null
  readonly fx_rate: string | null
  readonly fx_date: string | null
}

/** Entries of a usage line, the earliest first. */
export async function listLineEntries(
  pool: Pool,
  invoice: Invoice,
  line: InvoiceLine,
  { limit, after }: { readonly limit: number; readonly after: EntryPosition | undefined },
): Promise<readonly LineEntry[]> {
  const values: unknown[] = [
    ...entriesParameters(scopeOf(invoice)),
    line.isLate,
    limit,
    after?.ts ?? null,
    after?.eventId ?? null,
    after?.source ?? null,
  ]
  const conditions = invoice.profile.lines_by.map((name) => {
    values.push(line.keys[name] ?? null)
    const column = name === 'meter' ? 'entry.meter' : `attribution.${LINE_COLUMNS[name]}`
    return ` and ${column} is not distinct from $${values.length}::text`
  })
  const { rows } = await pool.query<EntryRow>(
    `select entry.ts, entry.event_id, entry.source, entry.entry_kind, entry.provider_request_id, entry.price_version_id,
       entry.markup_rule_id, entry.quantity::text, entry.list_cost_usd::text, entry.sell_cost_usd::text,
       entry.sell_currency, trim_scale(entry.fx_rate)::text as fx_rate, entry.fx_date::text
     from (${entriesSql({ split: invoice.profile.lines_by.includes('meter') ? 'exact' : 'none' })}) as entry
     join dimension_set as attribution
       on attribution.organization_id = $1 and attribution.dimension_set_id = entry.dimension_set_id
     where entry.is_late = $8${conditions.join('')}
       and ($10::timestamptz is null or (entry.ts, entry.event_id, entry.source) > ($10, $11::text, $12::text))
     order by entry.ts, entry.event_id, entry.source
     limit $9`,
    values,
  )
  return rows.map((row) => {
    const soldIn = row.sell_currency ?? 'USD'
    const sold = { sellCostUsd: row.sell_cost_usd, soldIn, rate: row.fx_rate }
    return {
      ts: row.ts,
      eventId: row.event_id,
      source: row.source,
      entryKind: row.entry_kind,
      providerRequestId: row.provider_request_id,
      priceVersionId: row.price_version_id,
      markupRuleId: row.markup_rule_id,
      quantity: decimalText(decimal(row.quantity)),
      listCostUsd: decimalText(decimal(row.list_cost_usd)),
      sellCostUsd: decimalText(decimal(row.sell_cost_usd)),
      soldIn,
      rate: row.fx_rate,
      rateDate: row.fx_date,
      amount: decimalText(amountOf(invoice.currency, line.conversions, sold)),
    }
  })
}

/** A line that an event is on. */
export interface LineOfEvent {
  readonly invoice_id: string
  readonly number: string | null
  readonly status: string
  readonly line_no: number
  /** `late_rating`: what was rated after the event had arrived. */
  readonly source: 'event' | 'late_rating'
  readonly is_late: boolean
}

const LINES_OF_EVENT = `
  with entry as (
    select event.ts, event.dimension_set_id, event.lines, batch.position, 'event' as source, exists (
        select from credited_entry as credited
        where credited.organization_id = $1 and credited.event_id = event.event_id
      ) as is_credited
    from event_key as key
    join usage_event as event using (organization_id, event_id, ts)
    join ledger_batch as batch on batch.organization_id = event.organization_id and batch.batch_id = event.batch_id
    where key.organization_id = $1 and key.event_id = $2
    union all
    select late.ts, late.dimension_set_id, late.lines, batch.position, 'late_rating', false
    from late_rating as late
    join ledger_batch as batch using (organization_id, batch_id)
    where late.organization_id = $1 and late.event_id = $2
  )
  select invoice.invoice_id, invoice.number, invoice.status, line.line_no, entry.source, line.is_late
  from entry
  join dimension_set as attribution
    on attribution.organization_id = $1 and attribution.dimension_set_id = entry.dimension_set_id
  join invoice
    on invoice.organization_id = $1 and invoice.customer_id = attribution.customer_id
    and entry.position <= invoice.position and entry.ts < invoice.period_end
    and (
      entry.ts >= invoice.period_start
      or (entry.ts >= invoice.usage_since and entry.position > invoice.previous_position and not entry.is_credited)
    )
  join invoice_line as line
    on line.organization_id = $1 and line.invoice_id = invoice.invoice_id and line.revision = invoice.revision
    and line.kind = 'usage' and line.is_late = (entry.ts < invoice.period_start)
    and not exists (
      select from jsonb_each_text(line.keys) as wanted (name, value)
      where case wanted.name
        when 'meter' then not coalesce(wanted.value in (
          select part.meter from jsonb_to_recordset(entry.lines) as part (meter text)
        ), jsonb_array_length(entry.lines) = 0)
        else wanted.value is distinct from case wanted.name
          ${Object.entries(LINE_COLUMNS)
            .map(([name, column]) => `when '${name}' then attribution.${column}`)
            .join(' ')} end
      end
    )
  order by invoice.created_at, invoice.invoice_id, entry.source, line.line_no`

/** The invoice lines that an event is on, those of voided invoices too; one by meter for each of its meters. */
export async function linesOfEvent(
  database: Pool | PoolClient,
  organizationId: string,
  eventId: string,
): Promise<readonly LineOfEvent[]> {
  const { rows } = await database.query<LineOfEvent>(LINES_OF_EVENT, [organizationId, eventId])
  return rows
}

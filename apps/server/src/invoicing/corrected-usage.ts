import { type Decimal, decimal, type InvoiceLine, type LineDimension, ZERO } from '@tokentally/core'
import type { PoolClient } from 'pg'

/** What a correction has done to events that are on finalized invoices. */

/** One entry of a correction: a reversal or a replacement of the customer. */
export interface CorrectionEntry {
  readonly eventId: string
  /** The event that it takes back or stands in for. */
  readonly originalId: string
  /** Negative for a reversal. US dollars. */
  readonly sellCostUsd: Decimal
  /** Came without a price: its amount is not known, or is a late rating of its own, which invoices have apart. */
  readonly isUnpriced: boolean
  readonly soldIn: string
  readonly rate: string | null
  /** The invoice that has it already; null: none. */
  readonly frozenIn: { readonly id: string; readonly number: string | null } | null
  /** The finalized invoice that the original is on; null: none of this customer. */
  readonly invoiceId: string | null
  /** Of the original: where it is on the invoice. */
  readonly isLate: boolean
  readonly keys: Readonly<Record<Exclude<LineDimension, 'meter'>, string | null>>
  /** The line that the original was itself credited on, as a replacement; null: it was not. */
  readonly creditedLineNo: number | null
}

// Which entries an invoice has: InvoiceSelection of core/invoicing/invoice.ts. `ts` and `position` are expressions.
const isOn = (ts: string, position: string) => `(
      (${ts} >= invoice.period_start and ${ts} < invoice.period_end and ${position} <= invoice.position)
      or (
        ${ts} >= invoice.usage_since and ${ts} < invoice.period_start
        and ${position} > invoice.previous_position and ${position} <= invoice.position
      )
    )`

// An event that had no price when it came is charged where its late rating is. What a credit note has settled is on the
// invoice of that note, and on no other.
const ENTRIES = `
  select entry.event_id, entry.corrects_event_id as original_id,
    (case entry.entry_kind when 'reversal' then -1 else 1 end * entry.sell_cost_usd)::text as sell_cost_usd,
    entry.entry_kind is distinct from 'reversal' and entry.rating_status <> 'rated' as is_unpriced,
    coalesce(entry.sell_currency, 'USD') as sold_in, entry.fx_rate::text as rate,
    frozen.invoice_id as frozen_id, frozen.number as frozen_number,
    coalesce(settled.invoice_id, origin.invoice_id) as invoice_id, settled.line_no as credited_line_no,
    coalesce(origin.is_late, false) as is_late,
    original.feature, original.model, original.provider, original.project_id
  from usage_event as entry
  join ledger_batch as batch on batch.organization_id = entry.organization_id and batch.batch_id = entry.batch_id
  join usage_event as original
    on original.organization_id = entry.organization_id and original.ts = entry.ts
      and original.event_id = entry.corrects_event_id
  left join late_rating as original_late
    on original_late.organization_id = original.organization_id and original_late.event_id = original.event_id
      and original.sell_cost_usd = 0
  join ledger_batch as original_batch
    on original_batch.organization_id = original.organization_id
      and original_batch.batch_id = coalesce(original_late.batch_id, original.batch_id)
  left join lateral (
    select invoice.invoice_id, invoice.number
    from invoice
    where invoice.organization_id = entry.organization_id and invoice.customer_id = entry.customer_id
      and invoice.status <> 'void' and batch.position is not null
      and ${isOn('entry.ts', 'batch.position')}
    limit 1
  ) as frozen on true
  left join lateral (
    select note.invoice_id, credited.line_no
    from credited_entry as credited
    join credit_note as note using (organization_id, credit_note_id)
    join invoice using (organization_id, invoice_id)
    where credited.organization_id = original.organization_id and credited.event_id = original.event_id
      and invoice.customer_id = entry.customer_id
  ) as settled on true
  left join lateral (
    select invoice.invoice_id, original.ts < invoice.period_start as is_late
    from invoice
    where invoice.organization_id = original.organization_id and invoice.customer_id = entry.customer_id
      and original.customer_id = entry.customer_id and invoice.status in ('open', 'paid', 'uncollectible')
      and ${isOn('original.ts', 'original_batch.position')}
    limit 1
  ) as origin on true
  where entry.organization_id = $1 and entry.correction_id = $2 and entry.customer_id = $3
    and not exists (
      select from credited_entry as credited
      where credited.organization_id = entry.organization_id and credited.event_id = entry.event_id
    )
  order by entry.ts, entry.event_id`

interface EntryRow {
  readonly event_id: string
  readonly original_id: string
  readonly sell_cost_usd: string
  readonly is_unpriced: boolean
  readonly sold_in: string
  readonly rate: string | null
  readonly frozen_id: string | null
  readonly frozen_number: string | null
  readonly invoice_id: string | null
  readonly credited_line_no: number | null
  readonly is_late: boolean
  readonly feature: string | null
  readonly model: string | null
  readonly provider: string | null
  readonly project_id: string | null
}

/** The entries of a correction with a customer that no credit note has settled. */
export async function readCorrectionEntries(
  client: PoolClient,
  of: { readonly organizationId: string; readonly correctionId: string; readonly customer: string },
): Promise<readonly CorrectionEntry[]> {
  const { rows } = await client.query<EntryRow>(ENTRIES, [of.organizationId, of.correctionId, of.customer])
  return rows.map((row) => ({
    eventId: row.event_id,
    originalId: row.original_id,
    sellCostUsd: decimal(row.sell_cost_usd),
    isUnpriced: row.is_unpriced,
    soldIn: row.sold_in,
    rate: row.rate,
    frozenIn: row.frozen_id === null ? null : { id: row.frozen_id, number: row.frozen_number },
    invoiceId: row.invoice_id,
    isLate: row.is_late,
    keys: { feature: row.feature, model: row.model, provider: row.provider, project: row.project_id },
    creditedLineNo: row.credited_line_no,
  }))
}

/** The customers whose events a correction has changed, ascending; undefined: there is no such correction. */
export async function customersOfCorrection(
  client: PoolClient,
  organizationId: string,
  correctionId: string,
): Promise<readonly string[] | undefined> {
  const { rows: found } = await client.query(
    'select from correction where organization_id = $1 and correction_id::text = $2',
    [organizationId, correctionId.toLowerCase()],
  )
  if (found.length === 0) return undefined
  const { rows } = await client.query<{ customer_id: string }>(
    `select distinct customer_id
     from usage_event
     where organization_id = $1 and correction_id = $2 and customer_id is not null
     order by customer_id`,
    [organizationId, correctionId],
  )
  return rows.map((row) => row.customer_id)
}

/** What earlier notes have settled of an invoice's usage: the sum of those entries, in its currency. */
export async function settledAmount(
  client: PoolClient,
  organizationId: string,
  invoiceId: string,
): Promise<Decimal> {
  const { rows } = await client.query<{ amount: string }>(
    `select coalesce(sum(credited.amount), 0)::text as amount
     from credit_note as note
     join credited_entry as credited using (organization_id, credit_note_id)
     where note.organization_id = $1 and note.invoice_id = $2`,
    [organizationId, invoiceId],
  )
  return decimal(rows[0]?.amount ?? '0')
}

/**
 * The line that an event is on.
 *
 * @returns undefined when it is on several (lines by meter), or on none
 */
export function lineOf(entry: CorrectionEntry, lines: readonly InvoiceLine[]): InvoiceLine | undefined {
  if (entry.creditedLineNo !== null) return lines.find(({ lineNo }) => lineNo === entry.creditedLineNo)
  return lines.find(
    (line) =>
      line.kind === 'usage' &&
      line.isLate === entry.isLate &&
      Object.entries(line.keys).every(
        ([name, value]) => name in entry.keys && new Map(Object.entries(entry.keys)).get(name) === value,
      ),
  )
}

/**
 * An entry's amount in the invoice's currency, converted as its line was: at its own rate where it was sold in that
 * currency, else at the invoice's.
 *
 * @returns undefined when the invoice has converted nothing, and so has no rate
 */
export function amountOf(
  entry: CorrectionEntry,
  currency: string,
  lines: readonly InvoiceLine[],
): Decimal | undefined {
  if (currency === 'USD') return entry.sellCostUsd
  if (entry.sellCostUsd.eq(ZERO)) return ZERO
  if (entry.soldIn === currency && entry.rate !== null) return entry.sellCostUsd.times(decimal(entry.rate))
  const rate = lines.flatMap(({ conversions }) => conversions).find(({ soldIn }) => soldIn !== currency)?.rate
  return rate === undefined ? undefined : entry.sellCostUsd.times(decimal(rate))
}

import type { Invoice } from '@tokentally/core'
import type { Pool } from 'pg'
import type { UsageSource } from '../simulation/index.ts'
import { type EntriesScope, entriesParameters, entriesSql } from './entries.ts'
import { invoiceOf, SELECT_INVOICES } from './invoice-store.ts'

/** What the simulation of invoices reads. */

/** An invoice with what it charges for its own cycle: without what is carried over. */
export interface ChargedInvoice {
  readonly invoice: Invoice
  /** Decimal text in the invoice's currency. */
  readonly charged: string
}

type ChargedRow = Parameters<typeof invoiceOf>[0] & { readonly charged: string }

/**
 * Each customer's last invoices that have lines and are not void, by customer and cycle.
 *
 * @param customers undefined: all
 * @param count of each customer
 */
export async function lastInvoices(
  pool: Pool,
  {
    organizationId,
    customers,
    count,
  }: {
    readonly organizationId: string
    readonly customers: readonly string[] | undefined
    readonly count: number
  },
): Promise<readonly ChargedInvoice[]> {
  const { rows } = await pool.query<ChargedRow>(
    `with ranked as (
       select invoice_id, row_number() over (partition by customer_id order by period_start desc) as rank
       from invoice
       where organization_id = $1 and ($2::text[] is null or customer_id = any($2))
         and status in ('draft', 'open', 'paid', 'uncollectible')
     )
     select last.*, (
       select coalesce(sum(line.amount), 0)::text
       from invoice_line as line
       where line.organization_id = $1 and line.invoice_id = last.invoice_id and line.revision = last.revision
         and line.kind not in ('carried_in', 'carried_out')
     ) as charged
     from (${SELECT_INVOICES} where invoice.organization_id = $1) as last
     join ranked on ranked.invoice_id = last.invoice_id and ranked.rank <= $3
     order by last.customer_id collate "C", last.period_start`,
    [organizationId, customers ?? null, count],
  )
  return rows.map((row) => ({ invoice: invoiceOf(row), charged: row.charged }))
}

/**
 * The entries of invoices that select alike, as usage to be sold by other rules. A late rating is an entry of its
 * own; what is charged at least for an event is so once, with its first priced entry.
 */
export function entriesSource(scope: EntriesScope): UsageSource {
  return {
    sql: `(
      ${entriesWithEvents(
        'not entry.is_late',
        `join usage_event as event
          on event.organization_id = $1 and event.ts >= $4 and event.ts < $5
          and event.ts = entry.ts and event.event_id = entry.event_id`,
      )}
      union all
      ${entriesWithEvents(
        'entry.is_late',
        // Late entries are few, and from any time: "offset 0" keeps each lookup an index scan.
        `cross join lateral (
          select usage_event.*
          from usage_event
          where usage_event.organization_id = $1 and usage_event.ts = entry.ts
            and usage_event.event_id = entry.event_id
          offset 0
        ) as event`,
      )}
    ) as event`,
    parameters: entriesParameters(scope),
  }
}

// The condition is constant in each branch of the entries: those that it rules out are not read.
function entriesWithEvents(condition: string, joinEvent: string): string {
  return `select event.*, entry.events as entry_events,
        case entry.entry_kind when 'reversal' then -1 else 1 end as entry_sign,
        abs(entry.list_cost_usd) as entry_list_usd, abs(entry.sell_cost_usd) as entry_sell_usd,
        case entry.source when 'late_rating' then late.lines else event.lines end as entry_lines,
        entry.source = 'late_rating' or event.price_version_id is not null as entry_is_priced,
        entry.source <> 'late_rating' or event.price_version_id is null as entry_has_minimum,
        concat_ws('|', coalesce(entry.sell_currency, 'USD'), trim_scale(entry.fx_rate), entry.fx_date)
          as entry_sale
      from (${entriesSql({ split: 'none' })}) as entry
      ${joinEvent}
      left join late_rating as late
        on entry.source = 'late_rating' and late.organization_id = $1 and late.event_id = entry.event_id
      where ${condition}`
}

import type { InvoiceSelection, LineDimension } from '@tokentally/core'
import { ENTRY_SIGN } from '../rollups/index.ts'

/** The entries of the ledger that invoices are made of, as SQL: the one place that says what a selection selects. */

/** The columns of `dimension_set` that the dimensions of lines are. Meters are no column: they split an event. */
export const LINE_COLUMNS: Readonly<Record<Exclude<LineDimension, 'meter'>, string>> = {
  feature: 'feature',
  model: 'model',
  provider: 'provider',
  project: 'project_id',
}

/** Customers whose invoices select alike, but for when their first cycle began. */
export interface EntriesScope {
  readonly organizationId: string
  readonly customers: readonly { readonly customer: string; readonly sinceMs: number }[]
  readonly selection: Omit<InvoiceSelection, 'sinceMs'>
}

/** Values of the parameters $1 to $7 of `entriesSql`. */
export function entriesParameters({
  organizationId,
  customers,
  selection,
}: EntriesScope): readonly unknown[] {
  return [
    organizationId,
    customers.map(({ customer }) => customer),
    customers.map(({ sinceMs }) => new Date(sinceMs)),
    new Date(selection.startMs),
    new Date(selection.endMs),
    selection.previousPosition,
    selection.position,
  ]
}

// What is sold is split over an event's meters by their list costs, to 20 digits; the meter with the largest list
// cost has what is left, so that the parts add up to the event.
const splitOf = (entry: string) => `
    left join lateral (
      select meter, quantity, list_cost_usd, meter_no,
        case when meter_no > 1 then share
          else ${entry}.sell_cost_usd - coalesce(sum(share) filter (where meter_no > 1) over (), 0)
        end as sell_cost_usd
      from (
        select line.meter, line.quantity, coalesce(line.cost_usd, 0) as list_cost_usd,
          row_number() over (order by coalesce(line.cost_usd, 0) desc, line.meter collate "C") as meter_no,
          coalesce(round(${entry}.sell_cost_usd * coalesce(line.cost_usd, 0) / nullif(${entry}.list_cost_usd, 0), 20), 0)
            as share
        from jsonb_to_recordset(${entry}.lines) as line (meter text, quantity numeric, cost_usd numeric)
      ) as line
    ) as part on true`

/** Columns of an event that only lists of entries need. */
const EVENT_DETAILS = 'event.provider_request_id, event.price_version_id, event.markup_rule_id'
const LATE_DETAILS = 'null::text as provider_request_id, late.price_version_id, late.markup_rule_id'

const HAS_LATE_RATING = `exists (
        select from late_rating as rated
        join ledger_batch as rated_in using (organization_id, batch_id)
        where rated.organization_id = event.organization_id and rated.event_id = event.event_id
          and rated_in.position <= $7
      )`

function eventColumns(byMeter: boolean, isLate: boolean): string {
  // Of the cycle, a late rating of the selection takes it back; a late event may have been rated for another one.
  const unpriced = isLate
    ? `(event.rating_status <> 'rated' and not ${HAS_LATE_RATING})::int`
    : `(event.rating_status <> 'rated')::int`
  return `event.dimension_set_id, ${isLate} as is_late, event.ts, event.event_id, 'event' as source,
      coalesce(event.entry_kind, 'usage') as entry_kind, ${ENTRY_SIGN} as events,
      event.sell_currency, event.fx_rate, event.fx_date, ${EVENT_DETAILS},
      ${ENTRY_SIGN} * (coalesce(event.input_tokens, 0) + coalesce(event.output_tokens, 0)) as tokens,
      ${
        byMeter
          ? `part.meter, ${ENTRY_SIGN} * coalesce(part.quantity, 0) as quantity,
      ${ENTRY_SIGN} * coalesce(part.list_cost_usd, event.list_cost_usd) as list_cost_usd,
      ${ENTRY_SIGN} * coalesce(part.sell_cost_usd, event.sell_cost_usd) as sell_cost_usd,
      case when coalesce(part.meter_no, 1) = 1 then ${ENTRY_SIGN} * ${unpriced} else 0 end as unpriced`
          : `null::text as meter, ${ENTRY_SIGN} * (coalesce(event.input_tokens, 0) + coalesce(event.output_tokens, 0)) as quantity,
      ${ENTRY_SIGN} * event.list_cost_usd as list_cost_usd, ${ENTRY_SIGN} * event.sell_cost_usd as sell_cost_usd,
      ${ENTRY_SIGN} * ${unpriced} as unpriced`
      }`
}

/** Of a late rating: its event was counted when it arrived. */
function lateRatingColumns(byMeter: boolean, isLate: boolean): string {
  const unpriced = isLate ? '0' : '-1'
  return `late.dimension_set_id, ${isLate} as is_late, late.ts, late.event_id, 'late_rating' as source,
      'usage' as entry_kind, 0 as events,
      late.sell_currency, late.fx_rate, late.fx_date, ${LATE_DETAILS},
      0 as tokens, ${
        byMeter
          ? `part.meter, 0::numeric as quantity, coalesce(part.list_cost_usd, late.list_cost_usd) as list_cost_usd,
      coalesce(part.sell_cost_usd, late.sell_cost_usd) as sell_cost_usd,
      case when coalesce(part.meter_no, 1) = 1 then ${unpriced} else 0 end as unpriced`
          : `null::text as meter, 0 as quantity, late.list_cost_usd, late.sell_cost_usd, ${unpriced} as unpriced`
      }`
}

// Batches of a cycle are many, and those that came after its position few: these are looked up instead. Every entry
// commits together with its batch.
const notAfter = (entry: string) => `not exists (
        select from ledger_batch as beyond
        where beyond.organization_id = $1 and beyond.batch_id = ${entry}.batch_id
          and (beyond.position is null or beyond.position > $7)
          and beyond.ts_max >= $4 and beyond.ts_min < $5
      )`

// "offset 0" keeps the lookup of a batch an index scan, as in rollups.
const LATE_EVENTS = `
    from ledger_batch as batch
    cross join lateral (
      select event.*
      from usage_event as event
      where event.organization_id = batch.organization_id and event.batch_id = batch.batch_id
        and event.ts between batch.ts_min and batch.ts_max and event.ts < $4
      offset 0
    ) as event
    join unnest($2::text[], $3::timestamptz[]) as invoice (customer_id, usage_since)
      on invoice.customer_id = event.customer_id and event.ts >= invoice.usage_since`
const LATE_RATINGS = `
    from ledger_batch as batch
    join late_rating as late
      on late.organization_id = batch.organization_id and late.batch_id = batch.batch_id and late.ts < $4
    join dimension_set as attribution
      on attribution.organization_id = late.organization_id and attribution.dimension_set_id = late.dimension_set_id
    join unnest($2::text[], $3::timestamptz[]) as invoice (customer_id, usage_since)
      on invoice.customer_id = attribution.customer_id and late.ts >= invoice.usage_since`
const SINCE_LAST = `batch.organization_id = $1 and batch.position > $6 and batch.position <= $7 and batch.ts_min < $4`

/**
 * The entries that a scope selects, one row each; of a selection by meter, one for each meter. Amounts are exact, and
 * negative where an event is taken back. Parameters $1 to $7 are those of `entriesParameters`.
 */
export function entriesSql({ byMeter }: { readonly byMeter: boolean }): string {
  const split = (entry: string) => (byMeter ? splitOf(entry) : '')
  return `
    select ${eventColumns(byMeter, false)}
    from usage_event as event ${split('event')}
    where event.organization_id = $1 and event.ts >= $4 and event.ts < $5 and event.customer_id = any($2)
      and ${notAfter('event')}
    union all
    select ${lateRatingColumns(byMeter, false)}
    from late_rating as late ${split('late')}
    where late.organization_id = $1 and late.ts >= $4 and late.ts < $5
      and exists (
        select from dimension_set as attribution
        where attribution.organization_id = $1 and attribution.dimension_set_id = late.dimension_set_id
          and attribution.customer_id = any($2)
      )
      and ${notAfter('late')}
    union all
    select ${eventColumns(byMeter, true)} ${LATE_EVENTS} ${split('event')}
    where ${SINCE_LAST}
      and not exists (
        select from credited_entry as credited
        where credited.organization_id = event.organization_id and credited.event_id = event.event_id
      )
    union all
    select ${lateRatingColumns(byMeter, true)} ${LATE_RATINGS} ${split('late')}
    where ${SINCE_LAST}`
}

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

/**
 * How an event is told apart by its meters, which share what it was sold for by their list costs, to 20 digits; the
 * first has what is left, so that the parts add up to the event.
 *
 * - `none`: not at all. `exact`: a row for each meter has its part.
 * - `summable`: the row of the first meter has all that the event was sold for, and each other row its share and in
 *   `rest_meter` the meter to take that from again. Sums need no window over each event then, and can be taken by
 *   several workers.
 */
export type MeterSplit = 'none' | 'exact' | 'summable'

const RECORDSET = (entry: string) =>
  `rows from (jsonb_to_recordset(${entry}.lines) as (meter text, quantity numeric, cost_usd numeric)) with ordinality
      as line (meter, quantity, list_cost_usd, line_no)`
const shareOf = (entry: string, cost: string) => `coalesce(
        case when ${entry}.sell_cost_usd = ${entry}.list_cost_usd then ${cost}
          else round(${entry}.sell_cost_usd * ${cost} / nullif(${entry}.list_cost_usd, 0), 20)
        end, 0)`

function splitOf(entry: string, split: MeterSplit): string {
  if (split === 'none') return ''
  if (split === 'summable') return `left join lateral ${RECORDSET(entry)} on true`
  return `
    left join lateral (
      select meter, quantity, list_cost_usd, line_no, null::text as rest_meter,
        case when line_no > 1 then share
          else ${entry}.sell_cost_usd - coalesce(sum(share) filter (where line_no > 1) over (), 0)
        end as sell_cost_usd
      from (
        select line.*, ${shareOf(entry, 'line.list_cost_usd')} as share
        from ${RECORDSET(entry)}
      ) as line
    ) as line on true`
}

/** The columns of a row that its meter decides on. `sign` gives an amount its sign. */
function meterColumns(
  entry: 'event' | 'late',
  split: MeterSplit,
  { sign, quantity, unpriced }: { sign: (amount: string) => string; quantity: string; unpriced: string },
): string {
  if (split === 'none') {
    return `null::text as meter, null::text as rest_meter, ${quantity} as quantity,
      ${sign(`${entry}.list_cost_usd`)} as list_cost_usd, ${sign(`${entry}.sell_cost_usd`)} as sell_cost_usd,
      ${unpriced} as unpriced`
  }
  const isFirst = 'coalesce(line.line_no, 1) = 1'
  const sold =
    split === 'exact'
      ? `coalesce(line.sell_cost_usd, ${entry}.sell_cost_usd)`
      : `case when ${isFirst} then ${entry}.sell_cost_usd else ${shareOf(entry, 'line.list_cost_usd')} end`
  const listed = `coalesce(line.list_cost_usd, case when line.line_no is null then ${entry}.list_cost_usd else 0 end)`
  return `line.meter, ${split === 'exact' ? 'null::text' : `case when line.line_no > 1 then ${entry}.lines -> 0 ->> 'meter' end`} as rest_meter,
      ${quantity} as quantity, ${sign(listed)} as list_cost_usd, ${sign(sold)} as sell_cost_usd,
      case when ${isFirst} then ${unpriced} else 0 end as unpriced`
}

/** Columns of an event that only lists of entries need. */
const EVENT_DETAILS = 'event.provider_request_id, event.price_version_id, event.markup_rule_id'
const LATE_DETAILS = 'null::text as provider_request_id, late.price_version_id, late.markup_rule_id'

const HAS_LATE_RATING = `exists (
        select from late_rating as rated
        join ledger_batch as rated_in using (organization_id, batch_id)
        where rated.organization_id = event.organization_id and rated.event_id = event.event_id
          and rated_in.position <= $7
      )`

// The branches of the union have the same types: else it is no plain append, which several workers can read.
function eventColumns(split: MeterSplit, isLate: boolean): string {
  // Of the cycle, a late rating of the selection takes it back; a late event may have been rated for another one.
  const unpriced = isLate
    ? `(event.rating_status <> 'rated' and not ${HAS_LATE_RATING})::int`
    : `(event.rating_status <> 'rated')::int`
  const sign = (amount: string) =>
    `case event.entry_kind when 'reversal' then -(${amount}) else ${amount} end`
  const tokens = '(coalesce(event.input_tokens, 0) + coalesce(event.output_tokens, 0))::numeric'
  return `event.dimension_set_id, event.customer_id, event.feature, event.model, event.provider, event.project_id,
      ${isLate} as is_late, event.ts, event.event_id, 'event'::text as source,
      coalesce(event.entry_kind, 'usage') as entry_kind, ${ENTRY_SIGN} as events,
      event.sell_currency, event.fx_rate, event.fx_date, ${EVENT_DETAILS},
      ${meterColumns('event', split, {
        sign,
        quantity: sign(split === 'none' ? tokens : 'coalesce(line.quantity, 0)'),
        unpriced: sign(unpriced),
      })}`
}

/** Of a late rating: its event was counted when it arrived. */
function lateRatingColumns(split: MeterSplit, isLate: boolean): string {
  return `late.dimension_set_id, attribution.customer_id, attribution.feature, attribution.model, attribution.provider,
      attribution.project_id, ${isLate} as is_late, late.ts, late.event_id, 'late_rating'::text as source,
      'usage'::text as entry_kind, 0 as events,
      late.sell_currency, late.fx_rate, late.fx_date, ${LATE_DETAILS},
      ${meterColumns('late', split, {
        sign: (amount) => amount,
        quantity: '0::numeric',
        unpriced: isLate ? '0' : '-1',
      })}`
}

// Batches of a cycle are many, and those that came after its position few: these are looked up instead. Every entry
// commits together with its batch. "+ 0" hides the column's statistics, which take batches that have just got their
// position for ones without, and so expect no entry to be left: half of them is a better guess.
const notAfter = (entry: string) => `not exists (
        select from ledger_batch as beyond
        where beyond.organization_id = $1 and beyond.batch_id = ${entry}.batch_id + 0
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

const NOT_CREDITED = `
      and not exists (
        select from credited_entry as credited
        where credited.organization_id = event.organization_id and credited.event_id = event.event_id
      )`

/**
 * The entries that a scope selects, one row each; told apart by meters, one for each meter. Amounts are exact, and
 * negative where an event is taken back. Parameters $1 to $7 are those of `entriesParameters`.
 *
 * @param options.withCredited also late entries that a credit note has settled, which no invoice has
 */
export function entriesSql({
  split,
  withCredited = false,
}: {
  readonly split: MeterSplit
  readonly withCredited?: boolean
}): string {
  return `
    select ${eventColumns(split, false)}
    from usage_event as event ${splitOf('event', split)}
    where event.organization_id = $1 and event.ts >= $4 and event.ts < $5 and event.customer_id = any($2)
      and ${notAfter('event')}
    union all
    select ${lateRatingColumns(split, false)}
    from late_rating as late
    join dimension_set as attribution
      on attribution.organization_id = late.organization_id and attribution.dimension_set_id = late.dimension_set_id
        and attribution.customer_id = any($2) ${splitOf('late', split)}
    where late.organization_id = $1 and late.ts >= $4 and late.ts < $5
      and ${notAfter('late')}
    union all
    select ${eventColumns(split, true)} ${LATE_EVENTS} ${splitOf('event', split)}
    where ${SINCE_LAST} ${withCredited ? '' : NOT_CREDITED}
    union all
    select ${lateRatingColumns(split, true)} ${LATE_RATINGS} ${splitOf('late', split)}
    where ${SINCE_LAST}`
}

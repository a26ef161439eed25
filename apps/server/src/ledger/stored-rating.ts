import { type Conversion, decimal, type RatedLine, type Rating, type Sale } from '@tokentally/core'
import type { StoredEventRow } from './stored-event.ts'

/** A row of `usage_event` with what was rated late, where something was. Amounts are those of both together. */
export interface RatedEventRow extends StoredEventRow {
  readonly late_lines: StoredEventRow['lines'] | null
  readonly late_price_version_id: string | null
  readonly late_markup_rule_id: string | null
}

/** Reads `RatedEventRow`s; conditions on `event` follow. */
export const SELECT_RATED_EVENTS = `
  select event.*, late.lines as late_lines, late.price_version_id as late_price_version_id,
    late.markup_rule_id as late_markup_rule_id,
    (event.list_cost_usd + coalesce(late.list_cost_usd, 0))::text as list_cost_usd,
    (event.sell_cost_usd + coalesce(late.sell_cost_usd, 0))::text as sell_cost_usd
  from usage_event as event
  left join late_rating as late
    on late.organization_id = event.organization_id and late.event_id = event.event_id`

/** What an event costs and was sold for, as it stands in the ledger. */
export function storedRating(row: RatedEventRow): { readonly rating: Rating; readonly sale: Sale } {
  const isLate = row.late_lines !== null
  const status = isLate ? 'rated' : row.rating_status
  return {
    rating: {
      lines: storedRatedLines(row),
      listCostUsd: decimal(row.list_cost_usd),
      unpricedMeters: isLate ? [] : (row.unpriced_meters ?? []),
      // Not kept: the price book says it.
      unpricedReason: status === 'rated' ? null : 'no_price',
      priceVersionId: row.late_price_version_id ?? row.price_version_id,
      status,
    },
    sale: {
      sellCostUsd: decimal(row.sell_cost_usd),
      markupRuleId: row.late_markup_rule_id ?? row.markup_rule_id,
      conversion: storedConversion(row),
    },
  }
}

/** What the customer pays in, as it was settled when the event arrived; null: US dollars. */
export function storedConversion(row: StoredEventRow): Conversion | null {
  const { sell_currency: currency, fx_rate: rate, fx_date: rateDate } = row
  return currency === null || rate === null || rateDate === null ? null : { currency, rate, rateDate }
}

function storedRatedLines(row: RatedEventRow): readonly RatedLine[] {
  return [...row.lines, ...(row.late_lines ?? [])].flatMap((line) =>
    line.unit_price_usd === null || line.cost_usd === null
      ? []
      : [
          {
            meter: line.meter,
            quantity: Number(line.quantity),
            unitPriceUsd: line.unit_price_usd,
            costUsd: line.cost_usd,
          },
        ],
  )
}

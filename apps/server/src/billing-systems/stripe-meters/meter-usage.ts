import type { Pool, PoolClient } from 'pg'
import { type EntriesScope, entriesParameters, entriesSql } from '../../invoicing/index.ts'

/** Usage of a customer's day that was sold alike. Exact decimal text; negative where more was taken back. */
export interface DayUsage {
  readonly customer: string
  /** `YYYY-MM-DD`, UTC. */
  readonly day: string
  /** Null: these are sums of whole events, whose tokens are input and output together. */
  readonly meter: string | null
  readonly events: string
  readonly quantity: string
  readonly sellCostUsd: string
  /** `USD` for US dollars, which have no rate. */
  readonly soldIn: string
  readonly rate: string | null
}

interface UsageRow {
  readonly customer_id: string
  readonly day: string
  readonly meter: string | null
  readonly events: string
  readonly quantity: string
  readonly sell_cost_usd: string
  readonly sell_currency: string | null
  readonly fx_rate: string | null
}

/**
 * What a scope selects, by customer and UTC day: the entries of an invoice of the same selection, and those that credit
 * notes have settled, which Stripe is not told of otherwise.
 *
 * @param meters null: whole events; else quantities of these meters
 */
export async function usageByDay(
  database: Pool | PoolClient,
  scope: EntriesScope,
  meters: readonly string[] | null,
): Promise<readonly DayUsage[]> {
  const byMeter = meters !== null
  // Attributions are fewer than events: their text is joined to sums.
  const { rows } = await database.query<UsageRow>(
    `with summed as (
       select dimension_set_id, (ts at time zone 'UTC')::date as day, meter, sell_currency, fx_rate,
         sum(events) as events, sum(quantity) as quantity, sum(sell_cost_usd) as sell_cost_usd
       from (${entriesSql({ split: byMeter ? 'summable' : 'none', withCredited: true })}) as entry
       ${byMeter ? 'where meter = any($8)' : ''}
       group by dimension_set_id, day, meter, sell_currency, fx_rate
     )
     select attribution.customer_id, summed.day::text as day, summed.meter, sum(summed.events)::text as events,
       sum(summed.quantity)::text as quantity, sum(summed.sell_cost_usd)::text as sell_cost_usd,
       summed.sell_currency, trim_scale(summed.fx_rate)::text as fx_rate
     from summed
     join dimension_set as attribution
       on attribution.organization_id = $1 and attribution.dimension_set_id = summed.dimension_set_id
     group by attribution.customer_id, summed.day, summed.meter, summed.sell_currency, summed.fx_rate`,
    [...entriesParameters(scope), ...(byMeter ? [meters] : [])],
  )
  return rows.map((row) => ({
    customer: row.customer_id,
    day: row.day,
    meter: row.meter,
    events: row.events,
    quantity: row.quantity,
    sellCostUsd: row.sell_cost_usd,
    soldIn: row.sell_currency ?? 'USD',
    rate: row.fx_rate,
  }))
}

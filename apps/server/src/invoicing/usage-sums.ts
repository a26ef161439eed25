import type { LineDimension, UsageSum } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { type EntriesScope, entriesParameters, entriesSql, LINE_COLUMNS } from './entries.ts'

interface SumRow {
  readonly customer_id: string
  readonly is_late: boolean
  readonly keys: readonly (string | null)[]
  readonly events: string
  readonly quantity: string
  readonly list_cost_usd: string
  readonly sell_cost_usd: string
  readonly sell_currency: string | null
  readonly fx_rate: string | null
  readonly fx_date: string | null
  readonly unpriced: string
}

/**
 * Sums of what a scope selects, by customer, exact, in one pass over the ledger.
 *
 * @param dimensions what usage is told apart by; `meter` splits each event's sell cost over its meters by list cost
 * @returns nothing for customers without usage
 */
export async function usageSums(
  database: Pool | PoolClient,
  scope: EntriesScope,
  dimensions: readonly LineDimension[],
): Promise<ReadonlyMap<string, readonly UsageSum[]>> {
  const keys = dimensions.map((name) =>
    name === 'meter' ? 'summed.meter' : `attribution.${LINE_COLUMNS[name]}`,
  )
  // Attributions are fewer than events: their text is joined to sums.
  const { rows } = await database.query<SumRow>(
    `with summed as (
       select dimension_set_id, is_late, meter, sell_currency, fx_rate, fx_date, sum(events) as events,
         sum(quantity) as quantity, sum(list_cost_usd) as list_cost_usd, sum(sell_cost_usd) as sell_cost_usd,
         sum(unpriced) as unpriced
       from (${entriesSql({ byMeter: dimensions.includes('meter') })}) as entry
       group by dimension_set_id, is_late, meter, sell_currency, fx_rate, fx_date
     )
     select attribution.customer_id, summed.is_late, array[${keys.join(', ')}]::text[] as keys,
       sum(summed.events)::text as events, sum(summed.quantity)::text as quantity,
       sum(summed.list_cost_usd)::text as list_cost_usd, sum(summed.sell_cost_usd)::text as sell_cost_usd,
       summed.sell_currency, trim_scale(summed.fx_rate)::text as fx_rate, summed.fx_date::text as fx_date,
       sum(summed.unpriced)::text as unpriced
     from summed
     join dimension_set as attribution
       on attribution.organization_id = $1 and attribution.dimension_set_id = summed.dimension_set_id
     group by attribution.customer_id, summed.is_late, ${[...keys, ''].join(', ')}
       summed.sell_currency, summed.fx_rate, summed.fx_date`,
    [...entriesParameters(scope)],
  )
  const byCustomer = new Map<string, UsageSum[]>()
  for (const row of rows) {
    const sum: UsageSum = {
      isLate: row.is_late,
      keys: Object.fromEntries(dimensions.map((name, index) => [name, row.keys[index] ?? null])),
      events: Number(row.events),
      quantity: row.quantity,
      listCostUsd: row.list_cost_usd,
      sellCostUsd: row.sell_cost_usd,
      soldIn: row.sell_currency ?? 'USD',
      rate: row.fx_rate,
      rateDate: row.fx_date,
      unpricedEvents: Number(row.unpriced),
    }
    const known = byCustomer.get(row.customer_id)
    if (known === undefined) byCustomer.set(row.customer_id, [sum])
    else known.push(sum)
  }
  return byCustomer
}

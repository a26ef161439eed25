import type { LineDimension, UsageSum } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { inOneSnapshot } from '../database/transaction.ts'
import { type EntriesScope, entriesParameters, entriesSql, LINE_COLUMNS } from './entries.ts'

interface SumRow {
  readonly customer_id: string
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
  const rows = await inOneSnapshot(database, async (client) => {
    const sql = sumsSql(dimensions)
    const values = entriesParameters(scope)
    for (const [name, value] of SCAN_SETTINGS) await client.query(`set local ${name} = ${value}`)
    const { rows: ofCycle } = await client.query<SumRow>(sql, [...values, false])
    for (const [name] of SCAN_SETTINGS) await client.query(`set local ${name} to default`)
    const sums = ofCycle.map((row) => ({ ...row, isLate: false }))
    // Apart, since its lookups cannot be shared by several workers. Before the first invoice nothing is late.
    if (scope.selection.previousPosition === null) return sums
    const { rows: ofLate } = await client.query<SumRow>(sql, [...values, true])
    return [...sums, ...ofLate.map((row) => ({ ...row, isLate: true }))]
  })
  const byCustomer = new Map<string, UsageSum[]>()
  for (const row of rows) {
    const sum: UsageSum = {
      isLate: row.isLate,
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

/**
 * One pass over the ledger into a hash table. Without these the planner, which takes each event for a hundred meters
 * and batches that have just got their position for ones without, sorts the events on disk.
 */
const SCAN_SETTINGS = [
  ['work_mem', "'64MB'"],
  ['enable_sort', 'off'],
  ['enable_memoize', 'off'],
  ['jit', 'off'],
] as const

function sumsSql(dimensions: readonly LineDimension[]): string {
  const byMeter = dimensions.includes('meter')
  const columns = dimensions.flatMap((name) => (name === 'meter' ? [] : [LINE_COLUMNS[name]]))
  const sale = ['sell_currency', 'fx_rate', 'fx_date']
  const alike = ['customer_id', ...columns, ...sale].map((name) => `entry.${name}`)
  const groups = byMeter ? [...alike, 'entry.meter', 'entry.rest_meter'] : alike
  const keys = dimensions.map((name) => (name === 'meter' ? 'part.meter' : `entry.${LINE_COLUMNS[name]}`))
  return `
    with entry as (
      select ${groups.join(', ')}, sum(events) as events, sum(quantity) as quantity,
        sum(list_cost_usd) as list_cost_usd, sum(sell_cost_usd) as sell_cost_usd, sum(unpriced) as unpriced
      from (${entriesSql({ split: byMeter ? 'summable' : 'none' })}) as entry
      where entry.is_late = $8
      group by ${groups.join(', ')}
    )
    select entry.customer_id, array[${keys.join(', ')}]::text[] as keys,
      sum(part.events)::text as events, sum(part.quantity)::text as quantity,
      sum(part.list_cost_usd)::text as list_cost_usd, sum(part.sell_cost_usd)::text as sell_cost_usd,
      entry.sell_currency, trim_scale(entry.fx_rate)::text as fx_rate, entry.fx_date::text as fx_date,
      sum(part.unpriced)::text as unpriced
    from entry
    cross join lateral (
      select ${byMeter ? 'entry.meter, ' : ''}entry.events, entry.quantity, entry.list_cost_usd, entry.sell_cost_usd, entry.unpriced
      ${byMeter ? 'union all select entry.rest_meter, 0, 0, 0, -entry.sell_cost_usd, 0 where entry.rest_meter is not null' : ''}
    ) as part
    group by ${[...alike, ...(byMeter ? ['part.meter'] : [])].join(', ')}`
}

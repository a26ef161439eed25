import { once } from 'node:events'
import { Readable } from 'node:stream'
import type { Pool } from 'pg'
import { moneyText } from './aggregate.ts'
import { type AggregateRequest, aggregateStatement } from './aggregate-query.ts'
import { dimensionOf } from './dimensions.ts'

const HEADER = 'customer_id,feature,provider,model,tokens,cost\r\n'
const ROWS_PER_FETCH = 2_000

interface CsvRow {
  readonly group_0: string | null
  readonly group_1: string | null
  readonly group_2: string | null
  readonly group_3: string | null
  readonly input_tokens: string
  readonly output_tokens: string
  readonly sell_cost_usd: string
}

/**
 * Usage as CSV (RFC 4180): one row per customer, feature, provider and model, in that order; tokens are
 * input and output together, cost is the exact sell cost in US dollars. Rows are fetched as they are sent;
 * all come from one snapshot. Resolves once the report has begun: what fails before can still be answered.
 */
export async function usageCsv(
  pool: Pool,
  request: Omit<AggregateRequest, 'groupBy' | 'granularity' | 'withTotals'>,
): Promise<Readable> {
  const groupBy = ['customer', 'feature', 'provider', 'model'].flatMap((name) => dimensionOf(name) ?? [])
  const statement = aggregateStatement({ ...request, groupBy, granularity: undefined, withTotals: false })
  const csv = Readable.from(csvChunks(pool, statement.text, statement.values))
  await once(csv, 'readable')
  return csv
}

async function* csvChunks(pool: Pool, text: string, values: readonly unknown[]): AsyncGenerator<string> {
  const client = await pool.connect()
  let isClean = false
  try {
    await client.query('begin read only')
    await client.query(`declare usage_csv no scroll cursor for ${text}`, [...values])
    yield HEADER
    for (;;) {
      const { rows } = await client.query<CsvRow>(`fetch ${ROWS_PER_FETCH} from usage_csv`)
      if (rows.length > 0) yield rows.map(csvLine).join('')
      if (rows.length < ROWS_PER_FETCH) break
    }
    await client.query('commit')
    isClean = true
  } finally {
    // A reader who left early leaves a transaction open: that connection is not worth keeping.
    client.release(!isClean)
  }
}

function csvLine(row: CsvRow): string {
  const tokens = BigInt(row.input_tokens) + BigInt(row.output_tokens)
  const cells = [
    row.group_0,
    row.group_1,
    row.group_2,
    row.group_3,
    tokens.toString(),
    moneyText(row.sell_cost_usd),
  ]
  return `${cells.map(csvCell).join(',')}\r\n`
}

/** A cell of RFC 4180; null is empty. */
export function csvCell(value: string | null): string {
  if (value === null) return ''
  return /[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value
}

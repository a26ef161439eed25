import { decimal, decimalText, formatInstant, marginOf, ZERO } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { type AggregateRequest, aggregateStatement } from './aggregate-query.ts'

/** Sums of one group. Counts are numbers, money is exact decimal text in US dollars. */
export interface Sums {
  readonly requests: number
  readonly errors: number
  readonly estimated_requests: number
  readonly unpriced_requests: number
  readonly input_tokens: number
  readonly output_tokens: number
  readonly cache_read_tokens: number
  readonly cache_write_tokens: number
  readonly reasoning_tokens: number
  readonly total_tokens: number
  readonly list_cost: string
  readonly total_cost: string
  readonly avg_cost_per_request: string
  /** Sell less list cost. */
  readonly margin: string
  /** The margin as a share of the sell cost; null where nothing was sold. */
  readonly margin_percent: string | null
}

/** What customers pay in one currency; exact. */
export interface Charged {
  readonly currency: string
  readonly amount: string
}

export interface Aggregate {
  readonly groups: readonly (Sums & {
    readonly keys: Readonly<Record<string, string | null>>
    /** Only where the request asks for what was charged: groups are of one currency then. */
    readonly charged: Charged | undefined
  })[]
  readonly totals: Sums
  /** All of the groups, by currency; only where the request asks for it. */
  readonly charged: readonly Charged[]
}

interface AggregateRow {
  readonly is_total: boolean
  readonly bucket?: string | Date | null
  readonly [column: string]: unknown
}

/** Runs an aggregate; groups are ordered by bucket, then by the groups in the order asked for. */
export async function aggregate(database: Pool | PoolClient, request: AggregateRequest): Promise<Aggregate> {
  const statement = aggregateStatement(request)
  const result = await database.query<AggregateRow>(statement.text, [...statement.values])
  const groups = result.rows
    .filter((row) => !row.is_total)
    .map((row) => ({ keys: keysOf(row, request), charged: chargedOf(row), ...sumsOf(row) }))
  const total = result.rows.find((row) => row.is_total)
  const totals = sumsOf(total ?? { is_total: true })
  const hasKeys =
    request.groupBy.length > 0 || request.granularity !== undefined || request.isCharged === true
  return {
    groups: hasKeys || totals.requests === 0 ? groups : [{ keys: {}, charged: undefined, ...totals }],
    totals,
    charged: sumByCurrency(groups.flatMap(({ charged }) => charged ?? [])),
  }
}

function chargedOf(row: AggregateRow): Charged | undefined {
  const currency = row['charged_currency']
  return typeof currency === 'string' ? { currency, amount: moneyText(row['charged_amount']) } : undefined
}

function sumByCurrency(amounts: readonly Charged[]): readonly Charged[] {
  return [...Map.groupBy(amounts, ({ currency }) => currency)]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([currency, own]) => ({
      currency,
      amount: decimalText(own.reduce((sum, { amount }) => sum.plus(decimal(amount)), ZERO)),
    }))
}

function keysOf(row: AggregateRow, request: AggregateRequest): Record<string, string | null> {
  const keys: Record<string, string | null> = {}
  request.groupBy.forEach(({ name }, index) => {
    const value = row[`group_${index}`]
    keys[name] = typeof value === 'string' ? value : null
  })
  const bucket = bucketText(row.bucket, request.timeZone)
  if (bucket !== undefined) keys['bucket'] = bucket
  return keys
}

/** A bucket as reports show it, from what `bucketExpression` gave; undefined where there are no buckets. */
export function bucketText(bucket: unknown, timeZone: string): string | undefined {
  if (bucket instanceof Date) return formatInstant(bucket.getTime(), timeZone)
  return typeof bucket === 'string' ? bucket : undefined
}

function sumsOf(row: AggregateRow): Sums {
  const count = (column: string) => Number(row[column] ?? 0)
  const requests = count('requests')
  const listCost = moneyText(row['list_cost_usd'])
  const totalCost = moneyText(row['sell_cost_usd'])
  const { margin, marginPercent } = marginOf(decimal(listCost), decimal(totalCost))
  return {
    requests,
    errors: count('errors'),
    estimated_requests: count('estimated_requests'),
    unpriced_requests: count('unpriced_requests'),
    input_tokens: count('input_tokens'),
    output_tokens: count('output_tokens'),
    cache_read_tokens: count('cache_read_tokens'),
    cache_write_tokens: count('cache_write_tokens'),
    reasoning_tokens: count('reasoning_tokens'),
    total_tokens: count('input_tokens') + count('output_tokens'),
    list_cost: listCost,
    total_cost: totalCost,
    avg_cost_per_request: averageText(totalCost, requests),
    margin,
    margin_percent: marginPercent,
  }
}

/** Plain decimal text without trailing zeros, from what PostgreSQL prints of a numeric. */
export function moneyText(value: unknown): string {
  const text = typeof value === 'string' ? value : '0'
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text
}

/** Digits after the point of an average: enough to see a hundredth of a millionth of a cent. */
const AVERAGE_DIGITS = 12

/** The one division here; it is for reading, nothing is computed from it. Rounded down. */
function averageText(total: string, requests: number): string {
  if (requests === 0) return '0'
  const [whole = '0', fraction = ''] = total.split('.')
  const digits = Math.max(AVERAGE_DIGITS, fraction.length)
  const units = BigInt(whole + fraction.padEnd(digits, '0')) / BigInt(requests)
  const sign = units < 0n ? '-' : ''
  const text = (units < 0n ? -units : units).toString().padStart(digits + 1, '0')
  return moneyText(`${sign}${text.slice(0, -digits)}.${text.slice(-digits).slice(0, AVERAGE_DIGITS)}`)
}

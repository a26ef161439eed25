import { once } from 'node:events'
import { Readable } from 'node:stream'
import {
  type Decimal,
  decimal,
  decimalText,
  type Invoice,
  type InvoiceLine,
  invoiceDigits,
  type LineDimension,
  roundTo,
  ZERO,
} from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { Problem } from '../http/problem.ts'
import { csvCell } from '../reports/index.ts'
import { entriesParameters, entriesSql, LINE_COLUMNS } from './entries.ts'
import { existingInvoice, type InvoiceId } from './invoice-actions.ts'
import { linesOf } from './invoice-store.ts'
import { amountOf, scopeOf } from './line-entries.ts'

const HEADER = 'customer_id,feature,provider,model,tokens,cost,currency,line_no,kind,exact_cost\r\n'
const ROWS_PER_FETCH = 2_000

/**
 * An invoice as CSV (RFC 4180): a row for each feature, provider and model of a usage line, and one for each other
 * line, in the order of lines. `cost` is in the invoice's currency, rounded so that the rows of a line add up to its
 * amount; `exact_cost` is not rounded. Rows are read from the ledger as they are sent, in one snapshot.
 *
 * @throws Problem when there is no such invoice, or it has no lines yet
 */
export async function invoiceCsv(pool: Pool, which: InvoiceId): Promise<Readable> {
  const csv = Readable.from(csvChunks(pool, which))
  await once(csv, 'readable')
  return csv
}

async function* csvChunks(pool: Pool, which: InvoiceId): AsyncGenerator<string> {
  const client = await pool.connect()
  let isClean = false
  try {
    await client.query('begin isolation level repeatable read read only')
    const invoice = await existingInvoice(client, which)
    const lines = await linesOf(client, invoice)
    if (invoice.status === 'pending' || (invoice.status === 'blocked' && lines.length === 0)) {
      throw new Problem({
        code: 'conflict',
        detail: `The invoice has no lines: it is ${invoice.status}. ${invoice.reason ?? ''}`.trimEnd(),
      })
    }
    yield HEADER
    yield* usageRows(client, invoice, lines)
    yield lines
      .filter(({ kind }) => kind !== 'usage')
      .map((line) =>
        csvRow(invoice, line, [null, null, null], '0', decimal(line.amount), decimal(line.exactAmount)),
      )
      .join('')
    await client.query('commit')
    isClean = true
  } finally {
    // A reader who left early leaves a transaction open: that connection is not worth keeping.
    client.release(!isClean)
  }
}

interface SumRow {
  readonly is_late: boolean
  readonly keys: readonly (string | null)[]
  readonly names: readonly (string | null)[]
  readonly quantity: string
  readonly sell_cost_usd: string
  readonly sell_currency: string | null
  readonly fx_rate: string | null
}

/** A row that is not rounded yet. */
interface OpenRow {
  readonly names: readonly (string | null)[]
  quantity: Decimal
  exact: Decimal
}

/** Line by line: a line's rows are rounded together. */
async function* usageRows(
  client: PoolClient,
  invoice: Invoice,
  lines: readonly InvoiceLine[],
): AsyncGenerator<string> {
  const linesBy = invoice.profile.lines_by
  const byKey = new Map(
    lines
      .filter(({ kind }) => kind === 'usage')
      .map((line) => [keyOf(line.isLate, keysOf(line, linesBy)), line]),
  )
  await client.query(`declare invoice_csv no scroll cursor for ${statementOf(linesBy)}`, [
    ...entriesParameters(scopeOf(invoice)),
  ])
  let line: InvoiceLine | undefined
  let rows: OpenRow[] = []
  const flush = (): string => {
    if (line === undefined) return ''
    const owner = line
    const costs = roundTo(
      decimal(owner.amount),
      rows.map(({ exact }) => exact),
      invoiceDigits(invoice.currency),
    )
    return rows
      .map(({ names, quantity, exact }, index) =>
        csvRow(invoice, owner, names, decimalText(quantity), costs[index] ?? ZERO, exact),
      )
      .join('')
  }
  for (;;) {
    const fetched = await client.query<SumRow>(`fetch ${ROWS_PER_FETCH} from invoice_csv`)
    let chunk = ''
    for (const row of fetched.rows) {
      const owner = byKey.get(keyOf(row.is_late, row.keys))
      if (owner === undefined)
        throw new Error(`invoice ${invoice.id} has no line for ${JSON.stringify(row.keys)}`)
      if (owner !== line) {
        chunk += flush()
        line = owner
        rows = []
      }
      add(rows, row, amountOf(invoice.currency, owner.conversions, soldOf(row)))
    }
    if (fetched.rows.length < ROWS_PER_FETCH) chunk += flush()
    if (chunk !== '') yield chunk
    if (fetched.rows.length < ROWS_PER_FETCH) return
  }
}

/** Rows of one name at several rates come one after another, and are one. */
function add(rows: OpenRow[], { names, quantity }: SumRow, exact: Decimal): void {
  const last = rows.at(-1)
  if (last !== undefined && JSON.stringify(last.names) === JSON.stringify(names)) {
    last.quantity = last.quantity.plus(decimal(quantity))
    last.exact = last.exact.plus(exact)
  } else {
    rows.push({ names, quantity: decimal(quantity), exact })
  }
}

function soldOf(row: SumRow) {
  return { sellCostUsd: row.sell_cost_usd, soldIn: row.sell_currency ?? 'USD', rate: row.fx_rate }
}

function statementOf(linesBy: readonly LineDimension[]): string {
  const inOrder = (column: string) => `${column} collate "C" nulls last`
  const keys = linesBy.map((name) =>
    name === 'meter' ? 'summed.meter' : `attribution.${LINE_COLUMNS[name]}`,
  )
  const names = ['attribution.feature', 'attribution.provider', 'attribution.model']
  return `
    with summed as (
      select dimension_set_id, is_late, meter, sell_currency, fx_rate, sum(quantity) as quantity,
        sum(sell_cost_usd) as sell_cost_usd
      from (${entriesSql({ split: linesBy.includes('meter') ? 'exact' : 'none' })}) as entry
      group by dimension_set_id, is_late, meter, sell_currency, fx_rate
    )
    select summed.is_late, array[${keys.join(', ')}]::text[] as keys, array[${names.join(', ')}]::text[] as names,
      sum(summed.quantity)::text as quantity, sum(summed.sell_cost_usd)::text as sell_cost_usd,
      summed.sell_currency, trim_scale(summed.fx_rate)::text as fx_rate
    from summed
    join dimension_set as attribution
      on attribution.organization_id = $1 and attribution.dimension_set_id = summed.dimension_set_id
    group by ${[...new Set(['summed.is_late', ...keys, ...names])].join(', ')}, summed.sell_currency, summed.fx_rate
    order by summed.is_late, ${[...keys, ...names].map(inOrder).join(', ')}, summed.sell_currency, summed.fx_rate`
}

function keysOf(line: InvoiceLine, linesBy: readonly LineDimension[]): readonly (string | null)[] {
  return linesBy.map((name) => line.keys[name] ?? null)
}

function keyOf(isLate: boolean, keys: readonly (string | null)[]): string {
  return JSON.stringify([isLate, ...keys])
}

function csvRow(
  invoice: Invoice,
  line: InvoiceLine,
  names: readonly (string | null)[],
  quantity: string,
  cost: Decimal,
  exact: Decimal,
): string {
  const cells = [
    invoice.customer,
    ...names,
    quantity,
    decimalText(cost),
    invoice.currency,
    String(line.lineNo),
    line.kind,
    decimalText(exact),
  ]
  return `${cells.map(csvCell).join(',')}\r\n`
}

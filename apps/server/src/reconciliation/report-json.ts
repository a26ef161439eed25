import {
  CAUSES,
  type Comparison,
  type Decimal,
  decimalText,
  percentText,
  type Reconciliation,
  type Vendor,
  ZERO,
} from '@tokentally/core'
import { z } from 'zod'

const quantity = z.string().describe('Units of the meter, exact')
const money = z.string().describe('US dollars, exact')

const comparisonFields = {
  vendor_quantity: quantity
    .nullable()
    .describe('Null: the vendor gives no quantities. Of several meters, the tokens.'),
  ledger_quantity: quantity,
  difference_quantity: quantity.nullable().describe("The vendor's minus ours"),
  vendor_cost: money.nullable().describe('Null: the vendor gives no costs.'),
  ledger_cost: money.describe('At list prices'),
  difference_cost: money.nullable(),
  vendor_unit_price: money.nullable().describe('Average of one unit, rounded to 12 significant digits'),
  ledger_unit_price: money.nullable(),
  matches: z.boolean().describe('Whether both sides agree within the tolerance'),
  causes: z
    .array(
      z.object({
        cause: z.enum(CAUSES),
        quantity: quantity.describe('The part of the difference in units that it explains'),
        cost: money.nullable().describe('The part of the difference in cost; null: nobody says a price.'),
        details: z.array(z.string()),
      }),
    )
    .describe('In the order in which they were asked; they add up to the difference'),
}

export const rowJson = z.object({
  vendor: z.string(),
  day: z.string().nullable(),
  model: z.string().nullable(),
  meter: z.string().nullable(),
  ...comparisonFields,
})

export const vendorReportJson = z.object({
  vendor: z.string(),
  days: z.array(z.string()).describe('The days that the vendor has told of, which are compared'),
  days_without_figures: z.array(z.string()),
  coverage: z.object({
    vendor_tokens: quantity,
    metered_tokens: quantity,
    tokens_percent: z.string().nullable(),
    vendor_cost: money.nullable(),
    metered_cost: money.nullable(),
    cost_percent: z.string().nullable(),
  }),
  totals: z.object(comparisonFields),
  rows: z.array(rowJson),
})

/** Digits of unit prices and percentages that are read and not computed with. */
const PRICE_DIGITS = 12
const PERCENT_PLACES = 4

export function vendorReportToJson(
  vendor: Vendor,
  { days, rows, totals, coverage }: Reconciliation,
  asked: readonly string[],
): z.infer<typeof vendorReportJson> {
  const told = new Set(days)
  return {
    vendor,
    days: [...days],
    days_without_figures: asked.filter((day) => !told.has(day)),
    coverage: {
      vendor_tokens: decimalText(coverage.vendorTokens),
      metered_tokens: decimalText(coverage.meteredTokens),
      tokens_percent: percentOf(coverage.meteredTokens, coverage.vendorTokens),
      vendor_cost: textOrNull(coverage.vendorCostUsd),
      metered_cost: textOrNull(coverage.meteredCostUsd),
      cost_percent: percentOf(coverage.meteredCostUsd, coverage.vendorCostUsd),
    },
    totals: comparisonToJson(totals),
    rows: rows.map((row) => rowToJson(vendor, row)),
  }
}

export function rowToJson(vendor: Vendor, row: Comparison): z.infer<typeof rowJson> {
  return { vendor, day: row.day, model: row.model, meter: row.meter, ...comparisonToJson(row) }
}

function comparisonToJson(row: Comparison) {
  const { vendorQuantity, vendorCostUsd, ledgerQuantity, ledgerCostUsd } = row
  return {
    vendor_quantity: textOrNull(vendorQuantity),
    ledger_quantity: decimalText(ledgerQuantity),
    difference_quantity: textOrNull(vendorQuantity?.minus(ledgerQuantity)),
    vendor_cost: textOrNull(vendorCostUsd),
    ledger_cost: decimalText(ledgerCostUsd),
    difference_cost: textOrNull(vendorCostUsd?.minus(ledgerCostUsd)),
    vendor_unit_price: priceText(row.vendorUnitUsd),
    ledger_unit_price: priceText(row.ledgerUnitUsd),
    matches: row.isMatch,
    causes: row.causes.map((part) => ({
      cause: part.cause,
      quantity: decimalText(part.quantity),
      cost: part.costUsd === undefined ? null : costText(part.costUsd),
      details: [...part.details],
    })),
  }
}

/** Shares of a cost come from a division; they are shown to more digits than any bill has. */
function costText(cost: Decimal): string {
  return decimalText(cost.round(18, 2))
}

function textOrNull(value: Decimal | undefined): string | null {
  return value === undefined ? null : decimalText(value)
}

function priceText(price: Decimal | undefined): string | null {
  return price === undefined ? null : decimalText(price.round(Math.max(0, PRICE_DIGITS - price.e - 1), 2))
}

function percentOf(part: Decimal | undefined, whole: Decimal | undefined): string | null {
  if (part === undefined || whole === undefined || whole.eq(ZERO)) return null
  return percentText(part, whole, PERCENT_PLACES)
}

const CSV_COLUMNS = [
  'vendor',
  'day',
  'model',
  'meter',
  'vendor_quantity',
  'ledger_quantity',
  'difference_quantity',
  'vendor_cost',
  'ledger_cost',
  'difference_cost',
  'vendor_unit_price',
  'ledger_unit_price',
  'matches',
] as const

/** Rows as CSV (RFC 4180); causes are in one cell, as `cause quantity cost`, separated by `; `. */
export function* csvLines(rows: Iterable<z.infer<typeof rowJson>>): Generator<string> {
  yield `${CSV_COLUMNS.join(',')},causes\r\n`
  for (const row of rows) {
    const causes = row.causes.map(({ cause, quantity, cost }) =>
      `${cause} ${quantity} ${cost ?? ''}`.trimEnd(),
    )
    const cells = [...CSV_COLUMNS.map((column) => row[column]), causes.join('; ')]
    yield `${cells.map(csvCell).join(',')}\r\n`
  }
}

function csvCell(value: string | boolean | null): string {
  const text = value === null ? '' : String(value)
  // A cell that begins like a formula would be run by a spreadsheet.
  const safe = /^[=+@\t\r]|^-(?![\d.])/.test(text) ? `'${text}` : text
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

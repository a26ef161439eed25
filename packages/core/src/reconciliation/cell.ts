import { type Decimal, ZERO } from '../money/decimal.ts'
import type { UsageVendorCell } from './gather.ts'

/**
 * One day, model and meter on both sides, while its difference is explained. A cause takes a part of what is left
 * (`restQuantity`); what is left of the cost when all units are explained is a matter of prices.
 */
export interface Cell extends UsageVendorCell {
  restQuantity: Decimal
  readonly causes: CellCause[]
}

/** The causes, in the order in which they are asked; each takes what the ones before left. */
export const CAUSES = [
  'credit',
  'discount',
  'tax',
  'other_charge',
  'time_zone',
  'unmetered_key',
  'unknown_model',
  'batch',
  'service_tier',
  'rounding',
  'aborted_calls',
  'late_data',
  'unmetered_usage',
  'not_at_vendor',
  'price_differs',
] as const
export type Cause = (typeof CAUSES)[number]

/** A part of a difference and why it is there. Quantity and cost are the vendor's minus ours. */
export interface CellCause {
  readonly cause: Cause
  readonly quantity: Decimal
  /** US dollars; undefined: nobody says a price. */
  readonly costUsd: Decimal | undefined
  readonly detail: string
}

/**
 * Lets a cause take units of a cell.
 *
 * @param costUsd what they cost; as the vendor prices the cell when left out
 */
export function explain(
  cell: Cell,
  cause: Cause,
  quantity: Decimal,
  detail: string,
  costUsd: Decimal | undefined = costOf(cell, quantity),
): void {
  if (quantity.eq(ZERO) && (costUsd === undefined || costUsd.eq(ZERO))) return
  cell.causes.push({ cause, quantity, costUsd, detail })
  cell.restQuantity = cell.restQuantity.minus(quantity)
}

/** What units of a cell cost at the vendor's average price there, or at ours where the vendor says none. */
function costOf(cell: Cell, quantity: Decimal): Decimal | undefined {
  const price = cell.vendorUnitUsd ?? cell.ledgerUnitUsd
  return price?.times(quantity)
}

export function sumOf(values: Iterable<Decimal>): Decimal {
  let sum = ZERO
  for (const value of values) sum = sum.plus(value)
  return sum
}

export function smaller(a: Decimal, b: Decimal): Decimal {
  return a.lt(b) ? a : b
}

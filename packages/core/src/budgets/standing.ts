import { type Decimal, decimal, decimalText, ZERO } from '../money/decimal.ts'

/** Arithmetic of limits. All amounts are US dollars, exact. */

/** What a period passes on to the next: what it left of its own amount, never a debt. */
export function rolledOver(amountUsd: Decimal, spentUsd: Decimal): Decimal {
  return spentUsd.lt(amountUsd) ? amountUsd.minus(spentUsd) : ZERO
}

/** What is left of a limit after what was spent and what is held; never below zero. */
export function remainingOf(limitUsd: string, spentUsd: string, heldUsd: string): string {
  const left = decimal(limitUsd).minus(decimal(spentUsd)).minus(decimal(heldUsd))
  return decimalText(left.lt(ZERO) ? ZERO : left)
}

/** Digits after the point of a percentage. */
const PERCENT_DIGITS = 2
const ROUND_DOWN = 0

/** How much of a limit is spent, for reading: rounded down, so that 100 means that it is reached. */
export function percentOf(spentUsd: string, limitUsd: string): number {
  return decimal(spentUsd)
    .times(decimal('100'))
    .div(decimal(limitUsd))
    .round(PERCENT_DIGITS, ROUND_DOWN)
    .toNumber()
}

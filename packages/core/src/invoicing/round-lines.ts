import { type Decimal, decimal, ZERO } from '../money/decimal.ts'

/**
 * The one rounding of money, by the method of the largest remainder: amounts are rounded down (towards minus
 * infinity), and the smallest units that are missing to the total go, one each, to those with the largest remainders,
 * the earlier one first where they are alike. So parts add up to the total, and none is a whole unit away from its
 * exact amount.
 */

const ROUND_DOWN = 0
const ROUND_HALF_EVEN = 2

/** Rounds half to even. @param digits after the point */
export function roundAmount(amount: Decimal, digits: number): Decimal {
  return amount.round(digits, ROUND_HALF_EVEN)
}

/** The exact sum rounded half to even, and the amounts that add up to it. @param digits after the point */
export function roundLines(
  exact: readonly Decimal[],
  digits: number,
): { readonly total: Decimal; readonly amounts: readonly Decimal[] } {
  const total = roundAmount(
    exact.reduce((sum, amount) => sum.plus(amount), ZERO),
    digits,
  )
  return { total, amounts: roundTo(total, exact, digits) }
}

/**
 * Rounds amounts so that they add up to a total that is less than one smallest unit away from their exact sum.
 *
 * @param total has no more than `digits` after the point
 * @throws RangeError when the total is not that near
 */
export function roundTo(total: Decimal, exact: readonly Decimal[], digits: number): readonly Decimal[] {
  const unit = decimal(`1e-${digits}`)
  const scale = decimal(`1e${digits}`)
  const parts = exact.map((amount, index) => {
    const down = floor(amount, digits, unit)
    return { index, down, remainder: amount.minus(down) }
  })
  const missing = total.minus(parts.reduce((sum, { down }) => sum.plus(down), ZERO)).times(scale)
  const amounts = parts.map(({ down }) => down)
  const rounded = parts
    .filter(({ remainder }) => remainder.gt(ZERO))
    .sort((a, b) => b.remainder.cmp(a.remainder) || a.index - b.index)
  const units = Number(missing.toFixed())
  if (!Number.isInteger(units) || units < 0 || units > rounded.length) {
    throw new RangeError(`${total.toFixed()} is not the sum of these amounts, rounded to ${digits} digits`)
  }
  for (const { index, down } of rounded.slice(0, units)) amounts[index] = down.plus(unit)
  return amounts
}

/** Towards minus infinity. */
function floor(amount: Decimal, digits: number, unit: Decimal): Decimal {
  const cut = amount.round(digits, ROUND_DOWN)
  return cut.gt(amount) ? cut.minus(unit) : cut
}

import { type Decimal, decimal, decimalText } from './decimal.ts'

/**
 * Divides and rounds half to even at a number of significant digits, exactly: the remainder decides, not a longer
 * quotient that was rounded before.
 *
 * @param dividend above zero
 * @param divisor above zero
 * @param digits significant digits of the result, at least 1
 * @throws RangeError when a number is not above zero
 */
export function divideToSignificant(dividend: Decimal, divisor: Decimal, digits: number): Decimal {
  const [a, aPlaces] = wholeOf(dividend)
  const [b, bPlaces] = wholeOf(divisor)
  if (a <= 0n || b <= 0n) throw new RangeError('only what is above zero can be divided to significant digits')
  // a/b lies within a factor of ten of 10^(lengths' difference): shift so that the quotient has the digits, or one more.
  let shift = digits + b.toString().length - a.toString().length
  let { quotient, rest, by } = divided(a, b, shift)
  if (quotient.toString().length > digits) {
    shift -= 1
    ;({ quotient, rest, by } = divided(a, b, shift))
  }
  const isUp = 2n * rest > by || (2n * rest === by && quotient % 2n === 1n)
  return shifted(isUp ? quotient + 1n : quotient, -(shift + aPlaces - bPlaces))
}

/**
 * A share in percent, rounded half to even, as plain decimal text for reading; nothing is computed from it.
 *
 * @param whole not zero
 * @param places digits after the point
 */
export function percentText(part: Decimal, whole: Decimal, places: number): string {
  const [a, aPlaces] = wholeOf(part)
  const [b, bPlaces] = wholeOf(whole)
  if (b === 0n) throw new RangeError('there is no share of nothing')
  const isNegative = a < 0n !== b < 0n
  const exponent = places + 2 + bPlaces - aPlaces
  const { quotient, rest, by } = divided(a < 0n ? -a : a, b < 0n ? -b : b, exponent)
  const isUp = 2n * rest > by || (2n * rest === by && quotient % 2n === 1n)
  const units = isUp ? quotient + 1n : quotient
  return decimalText(shifted(isNegative ? -units : units, -places))
}

/** The number as a whole one and how many places its point was moved for that. */
function wholeOf(value: Decimal): readonly [whole: bigint, places: number] {
  const [whole = '0', fraction = ''] = decimalText(value).split('.')
  return [BigInt(whole + fraction), fraction.length]
}

/** a × 10^shift / b, with what is left over of which divisor. */
function divided(a: bigint, b: bigint, shift: number): { quotient: bigint; rest: bigint; by: bigint } {
  const dividend = shift > 0 ? a * 10n ** BigInt(shift) : a
  const by = shift < 0 ? b * 10n ** BigInt(-shift) : b
  return { quotient: dividend / by, rest: dividend % by, by }
}

function shifted(units: bigint, exponent: number): Decimal {
  return decimal(decimalText(decimal(`${units}e${exponent}`)))
}

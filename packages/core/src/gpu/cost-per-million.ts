import { type Decimal, decimalText } from '../money/decimal.ts'

/** Digits after the point: a price of a million tokens is quoted in cents, this is a millionth of a millionth. */
const DIGITS = 12

/**
 * What a million tokens cost, as decimal text for reading: rounded half to even at twelve digits, because a
 * quotient need not end. Nothing is computed from it.
 *
 * @param cost not negative
 * @param tokens whole, not negative
 * @returns undefined without tokens: there is no such price
 */
export function costPerMillionTokens(cost: Decimal, tokens: bigint): string | undefined {
  if (tokens <= 0n) return undefined
  const [whole = '0', fraction = ''] = decimalText(cost).split('.')
  const scale = 10n ** BigInt(fraction.length)
  const dividend = BigInt(whole + fraction) * 1_000_000n * 10n ** BigInt(DIGITS)
  const divisor = tokens * scale
  const quotient = dividend / divisor
  const rest = 2n * (dividend % divisor)
  const isUp = rest > divisor || (rest === divisor && quotient % 2n === 1n)
  const units = (isUp ? quotient + 1n : quotient).toString().padStart(DIGITS + 1, '0')
  const text = `${units.slice(0, -DIGITS)}.${units.slice(-DIGITS)}`
  return text.replace(/\.?0+$/, '')
}

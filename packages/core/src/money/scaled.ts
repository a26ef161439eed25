import { type Decimal, decimal, ZERO } from './decimal.ts'

/**
 * Small amounts as whole numbers of 10^-scale dollars: what almost every event costs fits into the integers that a
 * double holds exactly, and arithmetic on those is many times faster than on decimals. Whoever computes with
 * them checks each result against `SCALED_MAX` and goes on with decimals beyond it, so that every digit is the
 * same either way.
 */

/** Whole numbers up to here are exact, and so are their sums and products up to here. */
export const SCALED_MAX = Number.MAX_SAFE_INTEGER

/** Digits after the point of a decimal. */
export function scaleOf(value: Decimal): number {
  return Math.max(0, value.c.length - 1 - value.e)
}

/** A decimal in units of 10^-scale; undefined when it has more digits than that, or too many in all. */
export function unitsOf(value: Decimal, scale: number): number | undefined {
  if (scaleOf(value) > scale || value.e + scale >= 15) return undefined
  let units = 0
  for (const digit of value.c) units = units * 10 + digit
  for (let zeros = scale - (value.c.length - 1 - value.e); zeros > 0; zeros--) units *= 10
  return value.s * units
}

/** The same, read from plain decimal text that is not negative; undefined where it may not fit. */
export function unitsOfText(text: string, scale: number): number | undefined {
  const point = text.indexOf('.')
  const places = point === -1 ? 0 : text.length - point - 1
  const digits = point === -1 ? text : text.slice(0, point) + text.slice(point + 1)
  // Fifteen digits and the power of ten that is missing are exact in a double.
  if (places > scale || digits.length + scale - places > 15) return undefined
  return Number(digits) * 10 ** (scale - places)
}

/** The decimal of a whole number of 10^-scale, not negative. */
export function decimalOfUnits(units: number, scale: number): Decimal {
  if (units === 0) return ZERO
  let rest = units
  let exponent = -scale
  while (rest % 10 === 0) {
    rest /= 10
    exponent++
  }
  const digits: number[] = []
  while (rest > 0) {
    const tenth = Math.floor(rest / 10)
    digits.push(rest - tenth * 10)
    rest = tenth
  }
  digits.reverse()
  // The three parts of a Big, as big.js documents them: coefficient, exponent of its first digit, sign.
  const value = decimal(ZERO)
  value.c = digits
  value.e = exponent + digits.length - 1
  value.s = 1
  return value
}

/** The text of a whole number of 10^-scale, not negative: what `decimalText` prints of the same amount. */
export function textOfUnits(units: number, scale: number): string {
  if (units === 0) return '0'
  let rest = units
  let places = scale
  while (places > 0 && rest % 10 === 0) {
    rest /= 10
    places--
  }
  const digits = String(rest)
  if (places === 0) return digits
  if (digits.length > places) return `${digits.slice(0, -places)}.${digits.slice(-places)}`
  return `0.${ZEROS.slice(0, places - digits.length)}${digits}`
}

const ZEROS = '0'.repeat(64)

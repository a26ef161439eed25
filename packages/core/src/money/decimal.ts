import Big from 'big.js'

// Strict: a JavaScript number can never slip into an amount, and an amount can never slip into float
// arithmetic. Division is the only operation of big.js that rounds; nothing in this file divides.
const ExactBig = Big()
ExactBig.strict = true
ExactBig.NE = -40
ExactBig.PE = 40

/** An exact decimal: amounts of money, unit prices, quantities that are not whole. */
export type Decimal = Big

export const ZERO: Decimal = new ExactBig('0')
const MILLION_INVERSE: Decimal = new ExactBig('0.000001')

/**
 * Reads an exact decimal.
 *
 * @param text a decimal literal such as `"0.15"` or `"-12"`, a bigint, or a decimal, which is copied
 * @throws Error when the text is no decimal number
 */
export function decimal(text: string | bigint | Decimal): Decimal {
  return new ExactBig(typeof text === 'bigint' ? text.toString() : text)
}

/**
 * The decimal that a JSON number or a vendor's price table was written with. JavaScript prints the shortest
 * literal that reads back as the same number, which is the literal that stood in the source.
 *
 * @throws RangeError when the number is not finite
 */
export function decimalFromLiteral(value: number): Decimal {
  if (!Number.isFinite(value)) throw new RangeError(`not a finite number: ${value}`)
  return new ExactBig(String(value))
}

/** Moves the decimal point six places: a price of 1,000,000 units becomes the price of one. Exact. */
export function perMillion(price: Decimal): Decimal {
  return price.times(MILLION_INVERSE)
}

/** Plain notation without exponent, without trailing zeros and without a sign on zero, the form of all amounts in JSON and SQL. */
export function decimalText(value: Decimal): string {
  return value.toFixed()
}

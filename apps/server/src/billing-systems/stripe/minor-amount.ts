import { type Decimal, decimal } from '@tokentally/core'

/**
 * How Stripe counts amounts (docs.stripe.com/currencies): in a currency's smallest unit. Currencies without a fraction are
 * counted in whole units, but ISK and UGX in hundredths, for compatibility; currencies of three digits in thousandths, and
 * there the last digit must be 0.
 */
const WHOLE_UNITS = new Set([
  ...[
    'BIF',
    'CLP',
    'DJF',
    'GNF',
    'JPY',
    'KMF',
    'KRW',
    'MGA',
    'PYG',
    'RWF',
    'VND',
    'VUV',
    'XAF',
    'XOF',
    'XPF',
  ],
])
const WHOLE_UNITS_IN_HUNDREDTHS = new Set(['ISK', 'UGX'])
const THOUSANDTHS = new Set(['BHD', 'JOD', 'KWD', 'OMR', 'TND'])

/**
 * An amount as Stripe counts it.
 *
 * @param amount exact decimal text
 * @param currency ISO 4217 code
 * @throws RangeError when Stripe cannot be told this amount exactly
 */
export function stripeAmount(amount: string, currency: string): number {
  const exact = decimal(amount)
  const units = exact.times(decimal(String(factorOf(currency))))
  const number = Number(units.toFixed(0))
  const isWhole = units.eq(units.round(0))
  const isPayable =
    (!THOUSANDTHS.has(currency) || number % 10 === 0) &&
    (!WHOLE_UNITS_IN_HUNDREDTHS.has(currency) || number % 100 === 0)
  if (!isWhole || !isPayable || !Number.isSafeInteger(number)) {
    throw new RangeError(`${amount} ${currency} is no amount that Stripe takes.`)
  }
  return number
}

/** How many of Stripe's smallest units an amount is; not rounded. */
export function stripeUnits(amount: Decimal, currency: string): Decimal {
  return amount.times(decimal(String(factorOf(currency))))
}

/** An amount of Stripe's as exact decimal text. */
export function amountOfStripe(units: number, currency: string): string {
  return decimal(String(units))
    .div(decimal(String(factorOf(currency))))
    .toFixed()
}

function factorOf(currency: string): number {
  if (WHOLE_UNITS.has(currency)) return 1
  return THOUSANDTHS.has(currency) ? 1000 : 100
}

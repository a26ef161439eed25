import { decimal, decimalText } from '@tokentally/core'

/**
 * Amounts of Stripe's are whole numbers of a currency's smallest unit. Which currencies have none, or three digits:
 * docs.stripe.com/currencies (zero-decimal and three-decimal currencies; ISK and UGX are sent with two).
 */
const WITHOUT_DIGITS = new Set([
  ...[
    'bif',
    'clp',
    'djf',
    'gnf',
    'jpy',
    'kmf',
    'krw',
    'mga',
    'pyg',
    'rwf',
    'vnd',
    'vuv',
    'xaf',
    'xof',
    'xpf',
  ],
])
const THREE_DIGITS = new Set(['bhd', 'jod', 'kwd', 'omr', 'tnd'])

/** An amount of Stripe's as decimal text. @param currency as Stripe writes it, in lower case */
export function amountOfStripe(units: number, currency: string): string {
  const digits = WITHOUT_DIGITS.has(currency) ? 0 : THREE_DIGITS.has(currency) ? 3 : 2
  return decimalText(decimal(BigInt(units)).times(decimal(`1e-${digits}`)))
}

/**
 * How many digits after the point an amount of a currency is invoiced with: ISO 4217, but for currencies of
 * three digits, which are invoiced in steps of 0.01, because card networks settle no smaller ones.
 */
const WITHOUT_FRACTION = new Set([
  ...['BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'VND', 'VUV', 'XAF'],
  ...['XOF', 'XPF'],
])

/** @param currency ISO 4217 code */
export function invoiceDigits(currency: string): number {
  return WITHOUT_FRACTION.has(currency) ? 0 : 2
}

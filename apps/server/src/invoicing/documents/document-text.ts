import {
  type Decimal,
  decimal,
  decimalText,
  type Invoice,
  type InvoiceLine,
  invoiceDigits,
  type LineConversion,
  localDate,
} from '@tokentally/core'

/** What documents say of amounts, days and rates, in English. Amounts keep every digit: none becomes a float. */

/** An amount of a currency with its sign, to the digits that it is invoiced with: `€1,234.50`. */
export function amountText(amount: string | Decimal, currency: string): string {
  const digits = invoiceDigits(currency)
  return format(decimal(amount), {
    style: 'currency',
    currency,
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  })
}

/** `1,234,567.5` */
export function numberText(value: string): string {
  return format(decimal(value), { maximumFractionDigits: 20 })
}

function format(value: Decimal, options: Intl.NumberFormatOptions): string {
  const text = decimalText(value)
  if (!isNumeric(text)) throw new RangeError(`not a number: ${text}`)
  // A string is formatted digit by digit; a true minus is as wide as a digit.
  return new Intl.NumberFormat('en-US', options).format(text).replace('-', '\u2212')
}

function isNumeric(text: string): text is `${number}` {
  return /^-?\d+(\.\d+)?$/.test(text)
}

/** `1 Nov 2026` */
export function dayText(at: Date | number, timeZone: string): string {
  return new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeZone }).format(at)
}

/** The first and the last day of the invoice's cycle: `1 Nov 2026 – 30 Nov 2026`. */
export function periodText({ selection, profile }: Invoice): string {
  const first = dayText(selection.startMs, profile.timezone)
  const last = dayText(selection.endMs - 1, profile.timezone)
  return first === last ? first : `${first} \u2013 ${last}`
}

/** Rates named one by one on a line; of more, their span is told. */
const RATES_MAX = 3

/** What a line was converted at; nothing where no conversion was needed. */
export function conversionTexts({ conversions }: InvoiceLine, currency: string): readonly string[] {
  const converted = conversions.filter(({ rateDate }) => rateDate !== null)
  const [first] = converted
  if (first === undefined) return []
  if (converted.length <= RATES_MAX) return converted.map((one) => conversionText(one, currency))
  const days = converted.map(({ rateDate }) => rateDate ?? '').toSorted()
  const rates = converted.map(({ rate }) => decimal(rate)).toSorted((a, b) => a.cmp(b))
  const [lowest = decimal('0'), highest = lowest] = [rates[0], rates.at(-1)]
  const sum = converted.reduce((total, { sellCostUsd }) => total.plus(decimal(sellCostUsd)), decimal('0'))
  return [
    `USD ${numberText(decimalText(sum))} at ${converted.length} daily rates, ${decimalText(lowest)} to ${decimalText(highest)} ${currency}, ${days[0] ?? ''} to ${days.at(-1) ?? ''}`,
  ]
}

function conversionText({ sellCostUsd, rate, rateDate }: LineConversion, currency: string): string {
  return `USD ${numberText(sellCostUsd)} at ${rate} ${currency}, rate of ${rateDate ?? ''}`
}

/** What is stamped over a document that must not be paid; undefined: nothing. */
export function stampOf({ status }: Pick<Invoice, 'status'>): 'DRAFT' | 'VOID' | undefined {
  if (status === 'void') return 'VOID'
  return status === 'pending' || status === 'draft' || status === 'blocked' ? 'DRAFT' : undefined
}

/** How the file is called: `INV-2026-000001.pdf`, `draft-acme-2026-11-01.pdf`. */
export function fileNameOf({ number, customer, selection, profile }: Invoice, extension: string): string {
  const safe = customer.replaceAll(/[^\w.-]+/g, '-').slice(0, 60)
  return `${number ?? `draft-${safe}-${localDate(selection.startMs, profile.timezone)}`}.${extension}`
}

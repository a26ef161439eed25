import { decimal, decimalText } from '../money/decimal.ts'
import { divideToSignificant } from '../money/divide.ts'
import type { Conversion, CurrencyBook } from './sell.ts'

/** Digits of an exchange rate: four more than the European Central Bank publishes. */
export const FX_RATE_DIGITS = 10

/** What a customer pays in, from a time on. */
export interface CustomerCurrency {
  readonly organizationId: string
  readonly customer: string
  /** ISO 4217 code; `USD` for US dollars. */
  readonly currency: string
  /** Who publishes the rates. */
  readonly source: string
  /** UTC milliseconds. */
  readonly effectiveFromMs: number
}

/** A rate as a source published it. */
export interface PublishedRate {
  /** Null: known to every organization. */
  readonly organizationId: string | null
  readonly source: string
  readonly currency: string
  /** From when on it is the last one, UTC milliseconds: for daily rates, the beginning of their day. */
  readonly validFromMs: number
  /** Units of the currency for one euro, exact decimal text. */
  readonly unitsPerEur: string
}

/**
 * The currencies that customers pay in, with the rates known.
 *
 * A customer's first currency is for all events that arrive from now on, whenever they happened; a later one is
 * for events from its own time on. The rate is the last one that the source published for the event's UTC day or
 * before, as the European Central Bank says for days without a rate; of a source within the day, the last one
 * before the event. Where a source knows no rate that early, the customer is charged in US dollars.
 *
 * @param currencies in the order of entry
 */
export function buildCurrencyBook(
  currencies: readonly CustomerCurrency[],
  rates: readonly PublishedRate[],
): CurrencyBook {
  const byCustomer = new Map<string, CustomerCurrency[]>()
  for (const one of currencies) {
    const key = customerKey(one.organizationId, one.customer)
    const versions = byCustomer.get(key)
    if (versions === undefined) byCustomer.set(key, [one])
    else versions.push(one)
  }
  for (const versions of byCustomer.values()) {
    versions.sort((a, b) => a.effectiveFromMs - b.effectiveFromMs)
  }
  if (byCustomer.size === 0) return { conversion: () => null }
  const known = new Map<string, CrossSeries>()
  const seriesOf = ({ organizationId, source, currency }: CustomerCurrency) => {
    const key = `${organizationId}\n${source}\n${currency}`
    let series = known.get(key)
    if (series === undefined) {
      series = new CrossSeries(crossRatesOf(rates, { organizationId, source, currency }))
      known.set(key, series)
    }
    return series
  }
  const memo = new WeakMap<CrossRate, Conversion>()
  return {
    conversion(organizationId, customer, tsMs) {
      if (customer === undefined) return null
      const versions = byCustomer.get(customerKey(organizationId, customer))
      if (versions === undefined) return null
      const version = versions.findLast((one) => one.effectiveFromMs <= tsMs) ?? versions[0]
      if (version === undefined || version.currency === 'USD') return null
      const rate = seriesOf(version).findLast(tsMs)
      if (rate === undefined) return null
      let conversion = memo.get(rate)
      if (conversion === undefined) {
        conversion = {
          currency: version.currency,
          rate: crossRate(rate.unitsPerEur, rate.usdPerEur),
          rateDate: new Date(rate.validFromMs).toISOString().slice(0, 10),
        }
        memo.set(rate, conversion)
      }
      return conversion
    },
  }
}

/**
 * Units of a currency for one US dollar, from two rates against the euro: their quotient, rounded half to even
 * at 10 significant digits.
 */
export function crossRate(unitsPerEur: string, usdPerEur: string): string {
  return decimalText(divideToSignificant(decimal(unitsPerEur), decimal(usdPerEur), FX_RATE_DIGITS))
}

interface CrossRate {
  readonly validFromMs: number
  readonly unitsPerEur: string
  readonly usdPerEur: string
}

/** The moments at which both the currency and the dollar were published, ascending. */
class CrossSeries {
  readonly #rates: readonly CrossRate[]

  constructor(rates: readonly CrossRate[]) {
    this.#rates = rates.toSorted((a, b) => a.validFromMs - b.validFromMs)
  }

  findLast(tsMs: number): CrossRate | undefined {
    let low = 0
    let high = this.#rates.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#rates[middle]?.validFromMs ?? Infinity) <= tsMs) low = middle + 1
      else high = middle
    }
    return this.#rates[low - 1]
  }
}

/** An organization's own rate of a moment wins over the one that all know. */
function crossRatesOf(
  rates: readonly PublishedRate[],
  { organizationId, source, currency }: Pick<CustomerCurrency, 'organizationId' | 'source' | 'currency'>,
): readonly CrossRate[] {
  const ofSource = (wanted: string) => {
    const known = new Map<number, string>()
    for (const owner of [null, organizationId]) {
      for (const rate of rates) {
        if (rate.organizationId !== owner || rate.source !== source || rate.currency !== wanted) continue
        known.set(rate.validFromMs, rate.unitsPerEur)
      }
    }
    return known
  }
  const dollars = ofSource('USD')
  if (currency === 'EUR') {
    return [...dollars].map(([validFromMs, usdPerEur]) => ({ validFromMs, unitsPerEur: '1', usdPerEur }))
  }
  return [...ofSource(currency)].flatMap(([validFromMs, unitsPerEur]) => {
    const usdPerEur = dollars.get(validFromMs)
    return usdPerEur === undefined ? [] : [{ validFromMs, unitsPerEur, usdPerEur }]
  })
}

function customerKey(organizationId: string, customer: string): string {
  return `${organizationId}\n${customer}`
}

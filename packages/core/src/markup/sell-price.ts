import { type Decimal, decimal, decimalFromLiteral, ZERO } from '../money/decimal.ts'
import { decimalOfUnits, SCALED_MAX, scaleOf, unitsOf, unitsOfText } from '../money/scaled.ts'
import type { RatedLine } from '../rating/rate.ts'
import { METERS } from '../usage/meters.ts'
import type { FixedPrice, MarkupTerms } from './markup-rule.ts'

/** What of an event a price depends on. */
export interface SoldUsage {
  /** Lines with a list price, each unit in one of them. */
  readonly lines: readonly RatedLine[]
  /** The sum of the lines. */
  readonly listCostUsd: Decimal
  /** How many requests the event says that it is; undefined: one. */
  readonly requests: number | undefined
}

/** The sell cost of some usage, exact. It never falls when usage is added. */
export type SellPrice = (usage: SoldUsage) => Decimal

/**
 * Prepares terms for many events.
 *
 * What has no line costs nothing, minimum and price per request included: usage without a list price is not
 * sold before it has one. Of an event that says it is no request (GPU time, what other models did for a
 * call) neither is due.
 */
export function sellPrice(terms: MarkupTerms): SellPrice {
  const basis = basisPrice(terms.basis)
  const { minimum } = terms
  if (minimum === null) return (usage) => (usage.lines.length === 0 ? ZERO : basis(usage))
  const perRequest = decimal(minimum)
  return (usage) => {
    if (usage.lines.length === 0) return ZERO
    const sellCostUsd = basis(usage)
    const least = times(perRequest, usage.requests)
    return sellCostUsd.lt(least) ? least : sellCostUsd
  }
}

/** What a list cost is multiplied by; undefined when the terms do not work so. */
export function listFactor({ basis }: MarkupTerms): Decimal | undefined {
  switch (basis.kind) {
    case 'list':
      return ONE
    case 'markup':
      return ONE.plus(decimal(basis.markup))
    case 'discount':
      return ONE.minus(decimal(basis.discount))
    case 'prices':
    case 'price_per_request':
      return undefined
  }
}

/** US dollars for one unit of each meter that fixed prices reach, parts of priced meters included. */
export function unitPrices(prices: Readonly<Record<string, FixedPrice>>): ReadonlyMap<string, Decimal> {
  const units = new Map(
    Object.entries(prices).map(([meter, { price, per }]) => [meter, decimal(price).times(UNIT[per])]),
  )
  for (const meter of Object.keys(METERS)) {
    let priced: string | undefined = meter
    while (priced !== undefined && !Object.hasOwn(prices, priced)) priced = METERS[priced]?.pricedAs
    const unit = priced === undefined ? undefined : units.get(priced)
    if (unit !== undefined) units.set(meter, unit)
  }
  return units
}

const ONE: Decimal = decimal('1')
const UNIT: Readonly<Record<FixedPrice['per'], Decimal>> = {
  1: ONE,
  1000: decimal('0.001'),
  1000000: decimal('0.000001'),
}

/** The meter whose price is due once for every call. */
const REQUESTS = 'requests'

function basisPrice(basis: MarkupTerms['basis']): SellPrice {
  switch (basis.kind) {
    case 'list':
      return ({ listCostUsd }) => listCostUsd
    case 'markup':
    case 'discount': {
      const factor = listFactor({ basis, minimum: null }) ?? ONE
      return ({ listCostUsd }) => listCostUsd.times(factor)
    }
    case 'price_per_request': {
      const price = decimal(basis.price)
      return ({ requests }) => times(price, requests)
    }
    case 'prices':
      return meterPrice(unitPrices(basis.prices))
  }
}

/** Digits after the point that hold what almost every line costs at list price. */
const LINE_SCALE = 12

function meterPrice(prices: ReadonlyMap<string, Decimal>): SellPrice {
  const scale = Math.max(LINE_SCALE, ...[...prices.values()].map(scaleOf))
  const units = new Map([...prices].map(([meter, usd]) => [meter, unitsOf(usd, scale) ?? Number.NaN]))
  const perRequest = prices.get(REQUESTS)
  return ({ lines, requests }) => {
    // In whole numbers while they are exact, else in decimals; every digit is the same either way.
    let sum = 0
    let rest = ZERO
    let hasRequests = requests !== undefined
    for (const { meter, quantity, costUsd } of lines) {
      if (meter === REQUESTS) hasRequests = true
      const price = prices.get(meter)
      const cost =
        price === undefined
          ? (unitsOfText(costUsd, scale) ?? Number.NaN)
          : Number.isInteger(quantity)
            ? (units.get(meter) ?? Number.NaN) * quantity
            : Number.NaN
      if (cost <= SCALED_MAX && sum + cost <= SCALED_MAX) sum += cost
      else rest = rest.plus(price === undefined ? decimal(costUsd) : times(price, quantity))
    }
    if (perRequest !== undefined && !hasRequests) rest = rest.plus(perRequest)
    const exact = decimalOfUnits(sum, scale)
    return rest === ZERO ? exact : exact.plus(rest)
  }
}

function times(amount: Decimal, quantity: number | undefined): Decimal {
  return quantity === undefined || quantity === 1 ? amount : amount.times(decimalFromLiteral(quantity))
}

import { type Decimal, decimal, decimalFromLiteral, ZERO } from '../money/decimal.ts'
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
    case 'prices': {
      const units = unitPrices(basis.prices)
      const perRequest = units.get(REQUESTS)
      return ({ lines, requests }) => {
        let sum = ZERO
        let hasRequests = requests !== undefined
        for (const line of lines) {
          const unit = units.get(line.meter)
          if (line.meter === REQUESTS) hasRequests = true
          sum = sum.plus(unit === undefined ? decimal(line.costUsd) : times(unit, line.quantity))
        }
        return perRequest === undefined || hasRequests ? sum : sum.plus(perRequest)
      }
    }
  }
}

function times(amount: Decimal, quantity: number | undefined): Decimal {
  return quantity === undefined || quantity === 1 ? amount : amount.times(decimalFromLiteral(quantity))
}

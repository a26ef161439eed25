import { type Decimal, decimalFromLiteral, decimalText, ZERO } from '../money/decimal.ts'
import { decimalOfUnits, SCALED_MAX, textOfUnits } from '../money/scaled.ts'
import { callMultiplier } from '../pricing/call-multiplier.ts'
import type { PriceBook } from '../pricing/price-book.ts'
import { disjointQuantities } from '../usage/meters.ts'
import type { UsageEvent } from '../usage/usage-event.ts'
import { marginalParts } from './marginal-tiers.ts'
import { type RateCard, rateCard, type UnitPrice } from './rate-card.ts'

/** What one meter of one event cost. */
export interface RatedLine {
  readonly meter: string
  /** Units that are in this meter and in no other line of the event. */
  readonly quantity: number
  /** US dollars for one unit, exact decimal text. */
  readonly unitPriceUsd: string
  /** `quantity` times `unitPriceUsd`, exact decimal text, not rounded. */
  readonly costUsd: string
}

/** `partly_unpriced`: some meters have a price, the costs are those of these alone. */
export type RatingStatus = 'rated' | 'unpriced' | 'partly_unpriced'

/**
 * Why something has no price. `no_price`: no version for this provider and model at that time; `no_rate`: the
 * version does not price some meter; `service_tier`: the price of the tier, or of the tier in that region, is not
 * known.
 */
export type UnpricedReason = 'no_price' | 'no_rate' | 'service_tier'

/** The list cost of one event. It is stored with the event and never computed again. */
export interface Rating {
  readonly lines: readonly RatedLine[]
  /** At the provider's prices: the sum of the lines, exact. */
  readonly listCostUsd: Decimal
  /** Meters of the event without a price: not free, unknown. */
  readonly unpricedMeters: readonly string[]
  readonly unpricedReason: UnpricedReason | null
  /** The version that the lines are priced by; null without lines. */
  readonly priceVersionId: string | null
  readonly status: RatingStatus
  /**
   * What of the event was rated and sold before: this rating is of the rest, which had no price on arrival.
   * Absent: this is all of it.
   */
  readonly earlier?: { readonly lines: readonly RatedLine[]; readonly listCostUsd: Decimal }
}

/** Names the meter of a price that is due once for every call. */
const REQUESTS = 'requests'

/**
 * Prices an event: its disjoint quantities times the unit prices of the version that applied when it happened.
 *
 * Nothing is rounded; rounding happens once, on an invoice line. A failed event costs nothing and is rated.
 * What has no price is named and not counted as zero.
 */
export function rate(organizationId: string, event: UsageEvent, book: PriceBook): Rating {
  if (event.status === 'error') return FAILED
  const quantities = disjointQuantities(event.quantities)
  const version = book.find(organizationId, event.provider, modelNames(event), event.tsMs, event)
  if (version === undefined) return unpriced(quantities, 'no_price')
  const multiplier = callMultiplier(version, event)
  if (multiplier === undefined) return unpriced(quantities, 'service_tier')

  const prices = rateCard(version, event.quantities['input_tokens'] ?? 0, multiplier)
  const lines: RatedLine[] = []
  const unpricedMeters: string[] = []
  const total = new Total(prices.scale)
  const add = (meter: string, quantity: number, price: UnitPrice) =>
    lines.push({ meter, quantity, unitPriceUsd: price.text, costUsd: total.add(quantity, price) })
  for (const meter in quantities) {
    const price = prices.get(meter)
    if (price === undefined) unpricedMeters.push(meter)
    else if (price.brackets === undefined) add(meter, quantities[meter] ?? 0, price)
    else {
      for (const part of marginalParts(meter, quantities, price, price.brackets))
        add(meter, part.quantity, part.price)
    }
  }
  const perRequest = requestPrice(prices, event.quantities)
  if (perRequest !== undefined) add(REQUESTS, 1, perRequest)
  const listCostUsd = total.usd()
  return {
    lines,
    listCostUsd,
    unpricedMeters,
    unpricedReason: unpricedMeters.length === 0 ? null : 'no_rate',
    priceVersionId: lines.length === 0 ? null : version.id,
    status: unpricedMeters.length === 0 ? 'rated' : lines.length === 0 ? 'unpriced' : 'partly_unpriced',
  }
}

/** Adds up lines: in whole numbers while they are exact, else in decimals. Every digit is the same either way. */
class Total {
  readonly #scale: number
  #units = 0
  #rest = ZERO

  constructor(scale: number) {
    this.#scale = scale
  }

  /** @returns the cost of one line */
  add(quantity: number, price: UnitPrice): string {
    const units = price.units * quantity
    // A fraction of a unit or a product beyond the exact integers takes the slow way, and so does NaN.
    if (Number.isInteger(quantity) && units <= SCALED_MAX && this.#units + units <= SCALED_MAX) {
      this.#units += units
      return textOfUnits(units, this.#scale)
    }
    const cost = price.usd.times(decimalFromLiteral(quantity))
    this.#rest = this.#rest.plus(cost)
    return decimalText(cost)
  }

  usd(): Decimal {
    const sum = decimalOfUnits(this.#units, this.#scale)
    return this.#rest === ZERO ? sum : sum.plus(this.#rest)
  }
}

/** The names to look for in the price book: what answered decides the price, then what was asked for. */
export function modelNames(event: Pick<UsageEvent, 'model' | 'responseModel'>): readonly string[] {
  const names: string[] = []
  if (event.responseModel !== undefined) names.push(event.responseModel)
  if (event.model !== undefined && event.model !== event.responseModel) names.push(event.model)
  return names
}

// An event that counts its requests itself is charged for those; one that says zero, such as GPU time, is no call.
function requestPrice(prices: RateCard, quantities: Readonly<Record<string, number>>): UnitPrice | undefined {
  return quantities[REQUESTS] === undefined ? prices.get(REQUESTS) : undefined
}

const FAILED: Rating = {
  lines: [],
  listCostUsd: ZERO,
  unpricedMeters: [],
  unpricedReason: null,
  priceVersionId: null,
  status: 'rated',
}

function unpriced(quantities: Readonly<Record<string, number>>, reason: UnpricedReason): Rating {
  return {
    lines: [],
    listCostUsd: ZERO,
    unpricedMeters: Object.keys(quantities),
    unpricedReason: reason,
    priceVersionId: null,
    status: 'unpriced',
  }
}

import { type Decimal, decimal, decimalText } from '../money/decimal.ts'
import { scaleOf, unitsOf } from '../money/scaled.ts'
import type { PriceVersion, Rate, RateTier } from '../pricing/price-version.ts'
import { METERS } from '../usage/meters.ts'
import type { Bracket } from './marginal-tiers.ts'

/** The exact price of one unit of a meter, in US dollars. */
export interface UnitPrice {
  readonly usd: Decimal
  /** The same as plain decimal text. */
  readonly text: string
  /** The same in units of 10^-scale of the card; NaN where it does not fit (`unitsOf`). */
  readonly units: number
  /** Marginal tiers: `usd` is the price of the tokens up to the first of them. */
  readonly brackets?: readonly Bracket[]
}

/** Unit prices by meter, for the requests of one size at one service tier. */
export interface RateCard {
  /** Digits after the point that hold every price of the card. */
  readonly scale: number
  get(meter: string): UnitPrice | undefined
  has(meter: string): boolean
}

/**
 * The unit prices of a version, computed once and kept as long as the version.
 *
 * Meters that the version does not price but that are part of another (METERS[…].pricedAs) have that one's
 * price: a vendor that lists no price for reasoning bills it as output. Every other meter is missing.
 *
 * @param inputTokens total input of the request, cached included: chooses the tier of every rate
 * @param tokenMultiplier exact decimal from the service tier; applies to the token meters
 */
export function rateCard(version: PriceVersion, inputTokens: number, tokenMultiplier: string): RateCard {
  let cards = CARDS.get(version)
  if (cards === undefined) {
    cards = { thresholds: thresholdsOf(version), byMultiplier: new Map() }
    CARDS.set(version, cards)
  }
  let bands = cards.byMultiplier.get(tokenMultiplier)
  if (bands === undefined) {
    bands = bandCards(version, cards.thresholds, tokenMultiplier)
    cards.byMultiplier.set(tokenMultiplier, bands)
  }
  let band = 0
  for (const threshold of cards.thresholds) if (inputTokens > threshold) band++
  return bands[band] ?? EMPTY
}

const EMPTY: RateCard = { scale: 0, get: () => undefined, has: () => false }

interface Cards {
  /** Input sizes above which some rate changes, ascending. */
  readonly thresholds: readonly number[]
  /** One card for each band between thresholds. */
  readonly byMultiplier: Map<string, readonly RateCard[]>
}

// Versions never change and are replaced as a whole with their book: the cards go with them.
const CARDS = new WeakMap<PriceVersion, Cards>()

const UNIT: Readonly<Record<Rate['per'], Decimal>> = {
  1: decimal('1'),
  1000: decimal('0.001'),
  1000000: decimal('0.000001'),
}

function thresholdsOf(version: PriceVersion): readonly number[] {
  const thresholds = Object.values(version.rates).flatMap((rate) =>
    rate.tierMode === 'marginal' ? [] : (rate.tiers ?? []).map((tier) => tier.aboveInputTokens),
  )
  return [...new Set(thresholds)].sort((a, b) => a - b)
}

function bandCards(
  version: PriceVersion,
  thresholds: readonly number[],
  tokenMultiplier: string,
): readonly RateCard[] {
  return [-1, ...thresholds].map((threshold) => card(version, threshold + 1, tokenMultiplier))
}

function card(version: PriceVersion, inputTokens: number, tokenMultiplier: string): RateCard {
  const multiplier = decimal(tokenMultiplier)
  const amounts = Object.entries(version.rates).map(([meter, rate]) => {
    const usdOf = (price: string) => {
      const listed = decimal(price).times(UNIT[rate.per])
      return meter.endsWith('_tokens') ? listed.times(multiplier) : listed
    }
    const isMarginal = rate.tierMode === 'marginal'
    const usd = usdOf(isMarginal ? rate.price : priceAt(rate, inputTokens))
    const steps = isMarginal
      ? ascending(rate).map(({ aboveInputTokens, price }) => ({ aboveInputTokens, usd: usdOf(price) }))
      : undefined
    return { meter, usd, steps }
  })
  const scale = Math.max(
    0,
    ...amounts.flatMap(({ usd, steps = [] }) => [scaleOf(usd), ...steps.map((step) => scaleOf(step.usd))]),
  )
  const unitPrice = (usd: Decimal): UnitPrice => ({
    usd,
    text: decimalText(usd),
    units: unitsOf(usd, scale) ?? Number.NaN,
  })
  const prices = new Map<string, UnitPrice>()
  for (const { meter, usd, steps } of amounts) {
    const brackets = steps?.map((step) => ({
      aboveInputTokens: step.aboveInputTokens,
      price: unitPrice(step.usd),
    }))
    prices.set(meter, { ...unitPrice(usd), ...(brackets !== undefined && { brackets }) })
  }
  for (const meter of Object.keys(METERS)) {
    let priced: string | undefined = meter
    while (priced !== undefined && !prices.has(priced)) priced = METERS[priced]?.pricedAs
    const price = priced === undefined ? undefined : prices.get(priced)
    if (price !== undefined) prices.set(meter, price)
  }
  return { scale, get: (meter) => prices.get(meter), has: (meter) => prices.has(meter) }
}

function priceAt(rate: Rate, inputTokens: number): string {
  let price = rate.price
  for (const tier of ascending(rate)) if (inputTokens > tier.aboveInputTokens) price = tier.price
  return price
}

function ascending(rate: Rate): readonly RateTier[] {
  return (rate.tiers ?? []).toSorted((a, b) => a.aboveInputTokens - b.aboveInputTokens)
}

import { type Decimal, decimal, decimalFromLiteral, ZERO } from '../money/decimal.ts'
import type { ProvisionedOffer } from './commitment-offers.ts'

/** What a model was asked for in one stretch of time. */
export interface Demand {
  /** UTC milliseconds. */
  readonly startMs: number
  readonly inputTokens: number
  /** Part of `inputTokens`. */
  readonly cachedTokens: number
  readonly outputTokens: number
  /** What it cost at list prices, US dollars. */
  readonly onDemandUsd: Decimal
}

/** A number of units of an offer, and what all demand would have cost with them. */
export interface ReservedChoice {
  readonly units: number
  /** Of the units themselves. */
  readonly reservedUsd: Decimal
  /** Of what they could not carry, at list prices. */
  readonly overflowUsd: Decimal
  readonly totalUsd: Decimal
}

/** How an offer's capacity is counted. */
type Capacity = Pick<
  ProvisionedOffer,
  'tokens_per_minute' | 'output_weight' | 'cached_weight' | 'usable_share' | 'price_per_hour'
>

/** Digits that a price of overflow per token is kept to; beyond the last one of any sum that is shown. */
const RATE_DIGITS = 30

/** Demand in tokens of input: others count by their weight. */
export function weightedTokens(
  demand: Demand,
  offer: Pick<Capacity, 'output_weight' | 'cached_weight'>,
): Decimal {
  return whole(demand.inputTokens - demand.cachedTokens)
    .plus(whole(demand.cachedTokens).times(decimal(offer.cached_weight)))
    .plus(whole(demand.outputTokens).times(decimal(offer.output_weight)))
}

/**
 * What every number of units would have cost, no units first: exact enumeration against every stretch of demand.
 *
 * Units carry `units × tokens_per_minute × usable_share` a minute; demand above that in a stretch is paid at the
 * stretch's own list price per weighted token. More units than what carries all demand are not tried: they only cost.
 *
 * @param stretchMinutes length of each stretch
 * @param hours over which the units are paid: the whole history, stretches without demand included
 */
export function reservedChoices(
  demands: readonly Demand[],
  offer: Capacity & Pick<ProvisionedOffer, 'units_min' | 'units_step' | 'units_max'>,
  { stretchMinutes, hours }: { readonly stretchMinutes: number; readonly hours: number },
): readonly ReservedChoice[] {
  const perUnit = capacityOfUnit(offer, stretchMinutes)
  const counts = [0]
  const peak = demands
    .map((demand) => weightedTokens(demand, offer))
    .reduce((a, b) => (b.gt(a) ? b : a), ZERO)
  for (let units = offer.units_min; units <= offer.units_max; units += offer.units_step) {
    counts.push(units)
    if (perUnit.times(whole(units)).gte(peak)) break
  }
  return choicesOfUnits(demands, offer, counts, { stretchMinutes, hours })
}

/** What demand would have cost with each of these numbers of units, in their order. */
export function choicesOfUnits(
  demands: readonly Demand[],
  offer: Capacity,
  counts: readonly number[],
  { stretchMinutes, hours }: { readonly stretchMinutes: number; readonly hours: number },
): readonly ReservedChoice[] {
  const overflow = overflowCosts(demands, offer, stretchMinutes)
  return counts.map((units) => choiceOf(units, offer, hours, overflow(units)))
}

/** What demand would have cost with this many units. */
export function withUnits(
  demands: readonly Demand[],
  offer: Capacity,
  units: number,
  length: { readonly stretchMinutes: number; readonly hours: number },
): ReservedChoice {
  return choiceOf(units, offer, length.hours, overflowCosts(demands, offer, length.stretchMinutes)(units))
}

/** The cheapest choice; of equal ones the fewest units. */
export function cheapestChoice(choices: readonly ReservedChoice[]): ReservedChoice | undefined {
  return choices.reduce<ReservedChoice | undefined>(
    (best, choice) => (best === undefined || choice.totalUsd.lt(best.totalUsd) ? choice : best),
    undefined,
  )
}

/**
 * From which utilization one unit pays: its price for a minute over what its capacity costs on demand, at the mean
 * list price of the history. Above 1: never. Undefined without demand that costs something.
 */
export function breakEvenUtilization(demands: readonly Demand[], offer: Capacity): Decimal | undefined {
  let tokens = ZERO
  let usd = ZERO
  for (const demand of demands) {
    tokens = tokens.plus(weightedTokens(demand, offer))
    usd = usd.plus(demand.onDemandUsd)
  }
  if (tokens.eq(ZERO) || usd.eq(ZERO)) return undefined
  const fullUnit = capacityOfUnit(offer, 60).times(usd)
  if (fullUnit.eq(ZERO)) return undefined
  return decimal(decimal(offer.price_per_hour).times(tokens).div(fullUnit).round(6))
}

/**
 * The share of capacity that nothing used, 0 to 1; demand beyond it does not make up for idle stretches.
 *
 * @param stretches how many there were, those without demand included
 */
export function idleShare(
  demands: readonly Demand[],
  offer: Capacity,
  units: number,
  { stretchMinutes, stretches }: { readonly stretchMinutes: number; readonly stretches: number },
): Decimal {
  const capacity = whole(offer.tokens_per_minute).times(whole(units * stretchMinutes))
  const available = capacity.times(whole(stretches))
  if (available.eq(ZERO)) return ZERO
  const used = demands
    .map((demand) => weightedTokens(demand, offer))
    .reduce((sum, tokens) => sum.plus(tokens.lt(capacity) ? tokens : capacity), ZERO)
  return decimal(decimal('1').minus(used.div(available)).round(6))
}

/** Tokens a minute at quantiles of all stretches, those without demand included, in tokens of input. */
export function demandQuantiles(
  demands: readonly Demand[],
  offer: Pick<Capacity, 'output_weight' | 'cached_weight'>,
  { stretchMinutes, stretches }: { readonly stretchMinutes: number; readonly stretches: number },
  shares: readonly number[],
): readonly Decimal[] {
  const sorted = demands.map((demand) => weightedTokens(demand, offer)).sort((a, b) => a.cmp(b))
  const empty = Math.max(0, stretches - sorted.length)
  return shares.map((share) => {
    const rank = Math.max(0, Math.ceil(share * (empty + sorted.length)) - 1)
    const tokens = rank < empty ? ZERO : (sorted[rank - empty] ?? ZERO)
    return decimal(tokens.div(whole(stretchMinutes)).round(3))
  })
}

function capacityOfUnit(offer: Capacity, minutes: number): Decimal {
  return whole(offer.tokens_per_minute).times(whole(minutes)).times(decimal(offer.usable_share))
}

// Of the stretches above a capacity k, each pays cost − k × (cost per token): two sums over the larger stretches
// tell the overflow of any number of units.
function overflowCosts(
  demands: readonly Demand[],
  offer: Capacity,
  stretchMinutes: number,
): (units: number) => Decimal {
  const sorted = demands
    .map((demand) => ({ tokens: weightedTokens(demand, offer), usd: demand.onDemandUsd }))
    .filter(({ tokens }) => tokens.gt(ZERO))
    .sort((a, b) => b.tokens.cmp(a.tokens))
  const unweighted = demands
    .filter((demand) => weightedTokens(demand, offer).eq(ZERO))
    .reduce((sum, { onDemandUsd }) => sum.plus(onDemandUsd), ZERO)
  const sums: { readonly usd: Decimal; readonly perToken: Decimal }[] = [{ usd: ZERO, perToken: ZERO }]
  for (const { tokens, usd } of sorted) {
    const last = sums.at(-1) ?? { usd: ZERO, perToken: ZERO }
    sums.push({ usd: last.usd.plus(usd), perToken: last.perToken.plus(ratio(usd, tokens)) })
  }
  const perUnit = capacityOfUnit(offer, stretchMinutes)
  return (units) => {
    const capacity = perUnit.times(whole(units))
    let [low, high] = [0, sorted.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if ((sorted[middle]?.tokens ?? ZERO).gt(capacity)) low = middle + 1
      else high = middle
    }
    const above = sums[low] ?? { usd: ZERO, perToken: ZERO }
    // What no token carries is not carried by capacity either.
    return decimal(above.usd.minus(capacity.times(above.perToken)).plus(unweighted).round(12))
  }
}

function choiceOf(units: number, offer: Capacity, hours: number, overflowUsd: Decimal): ReservedChoice {
  const reservedUsd = decimal(offer.price_per_hour).times(whole(units)).times(decimalFromLiteral(hours))
  return { units, reservedUsd, overflowUsd, totalUsd: reservedUsd.plus(overflowUsd) }
}

function ratio(usd: Decimal, tokens: Decimal): Decimal {
  // The scaled quotient keeps more digits than the library's own twenty.
  const scale = decimal(`1e${RATE_DIGITS - 18}`)
  return usd.times(scale).div(tokens).div(scale)
}

function whole(value: number): Decimal {
  return decimal(String(value))
}

import { type Decimal, decimal, ZERO } from '../money/decimal.ts'
import type { SpendOffer } from './commitment-offers.ts'

/**
 * What a spend at list prices costs under a commitment: the discounted spend, but never less than was committed.
 *
 * @param spendUsd of 30 days at list prices
 */
export function costUnderCommitment(
  spendUsd: Decimal,
  offer: Pick<SpendOffer, 'monthly_usd' | 'discount'>,
): Decimal {
  const discounted = spendUsd.times(decimal('1').minus(decimal(offer.discount)))
  const committed = decimal(offer.monthly_usd)
  return discounted.gt(committed) ? discounted : committed
}

/** The spend of 30 days at list prices from which a commitment pays: as much as was committed, where there is a discount. */
export function breakEvenSpend(offer: Pick<SpendOffer, 'monthly_usd' | 'discount'>): Decimal | undefined {
  return decimal(offer.discount).eq(ZERO) ? undefined : decimal(offer.monthly_usd)
}

/** A tier and what it makes of a spend. */
export interface SpendChoice {
  /** Undefined: no commitment. */
  readonly offer: SpendOffer | undefined
  readonly costUsd: Decimal
}

/** The cheapest of no commitment and all tiers; of equal ones the first, no commitment before all. */
export function cheapestTier(spendUsd: Decimal, offers: readonly SpendOffer[]): SpendChoice {
  let best: SpendChoice = { offer: undefined, costUsd: spendUsd }
  for (const offer of offers) {
    const costUsd = costUnderCommitment(spendUsd, offer)
    if (costUsd.lt(best.costUsd)) best = { offer, costUsd }
  }
  return best
}

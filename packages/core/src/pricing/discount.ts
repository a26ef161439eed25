import { type Decimal, decimal, decimalText } from '../money/decimal.ts'
import type { PriceVersion, Rate } from './price-version.ts'

const ONE = decimal('1')

/**
 * A discount applied to a price of the catalogue: a version with the discount's id and the reduced rates, exact.
 * It is for the tier that the catalogue's price is for.
 */
export function discounted(discount: PriceVersion, listed: PriceVersion): PriceVersion {
  const factor = ONE.minus(decimal(discount.discount ?? '0'))
  return {
    ...discount,
    model: listed.model,
    serviceTier: listed.serviceTier,
    inputTokensMax: listed.inputTokensMax,
    rates: Object.fromEntries(
      Object.entries(listed.rates).map(([meter, rate]) => [meter, discountedRate(rate, factor)]),
    ),
  }
}

function discountedRate(rate: Rate, factor: Decimal): Rate {
  const reduced = (price: string) => decimalText(decimal(price).times(factor))
  return {
    ...rate,
    price: reduced(rate.price),
    ...(rate.tiers !== undefined && {
      tiers: rate.tiers.map((tier) => ({ ...tier, price: reduced(tier.price) })),
    }),
  }
}

import type { PriceVersion } from './price-version.ts'
import { regionMultiplier } from './region-prices.ts'
import { canonicalTier, STANDARD_TIER, tokenMultiplier } from './service-tiers.ts'

/** What of a call changes its price beside the model. */
export interface PricedCall {
  readonly provider: string
  readonly serviceTier?: string | undefined
  readonly region?: string | undefined
}

/**
 * What the token prices of a version are multiplied by for a call, exact decimal text; undefined when that is not
 * known. A price that is for the call's tier is not multiplied for it, an organization's own rates not for the
 * region: they say what is paid. How a region's premium combines with another tier is not published.
 */
export function callMultiplier(version: PriceVersion, call: PricedCall): string | undefined {
  const tier = version.serviceTier === undefined ? tokenMultiplier(call.provider, call.serviceTier) : '1'
  if (tier === undefined || call.region === undefined) return tier
  if (version.organizationId !== null && version.discount === undefined) return tier
  const region = regionMultiplier(call.provider, call.region, version.model)
  if (region === '1') return tier
  return canonicalTier(call.serviceTier) === STANDARD_TIER ? region : undefined
}

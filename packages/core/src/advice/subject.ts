import type { PriceVersion } from '../pricing/price-version.ts'
import { catalogueProvider } from '../pricing/provider-aliases.ts'
import { canonicalTier, STANDARD_TIER } from '../pricing/service-tiers.ts'
import type { CallGroup } from './call-group.ts'
import type { AdviceSubject, CalledAs } from './finding.ts'

/** What a group's calls use: the model by the name that it has a price under, so that aliases and snapshots are one. */
export function subjectOf(group: CallGroup, version: PriceVersion): AdviceSubject {
  const tier = canonicalTier(group.serviceTier)
  return {
    provider: catalogueProvider(group.provider),
    model: version.model,
    ...(tier !== STANDARD_TIER && { serviceTier: tier }),
  }
}

/** The provider and the model as a group's calls name them. */
export function calledAs(group: CallGroup): CalledAs {
  return { provider: group.provider, model: group.model ?? null }
}

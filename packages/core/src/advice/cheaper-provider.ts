import type { PriceBook } from '../pricing/price-book.ts'
import type { PriceVersion } from '../pricing/price-version.ts'
import { catalogueProvider } from '../pricing/provider-aliases.ts'
import { canonicalTier, STANDARD_TIER } from '../pricing/service-tiers.ts'
import type { CallGroup } from './call-group.ts'
import type { AdviceContext, Finding } from './finding.ts'
import { hostlessModel } from './model-name.ts'
import { priceGroup, repriceGroup } from './reprice.ts'
import { calledAs, subjectOf } from './subject.ts'

/** Subscriptions whose models no application may call. */
const NOT_FOR_APPLICATIONS: ReadonlySet<string> = new Set(['cursor', 'github-copilot'])

/** OpenAI published the weights of gpt-oss and hosts none of it, though the catalogue has prices under its name. */
const isNotHosted = ({ provider, model }: PriceVersion) =>
  provider === 'openai' && model.startsWith('gpt-oss')

/** Who hosts which model, by `hostlessModel`: plain prices, in force at a time. */
export function hostsOfModels(
  book: PriceBook,
  organizationId: string,
  providers: readonly string[],
  atMs: number,
): ReadonlyMap<string, readonly PriceVersion[]> {
  const versions = providers
    .filter((provider) => !NOT_FOR_APPLICATIONS.has(provider))
    .flatMap((provider) => book.ofProvider(organizationId, provider, atMs))
    .filter((version) => version.timeOfDay === undefined && version.inputTokensMax === undefined)
    .filter((version) => !isNotHosted(version))
  return Map.groupBy(versions, (version) => hostlessModel(version.model))
}

/** Calls at the standard price of one host, at the price of every other host of the same model. */
export function cheaperProvider(group: CallGroup, context: AdviceContext): readonly Finding[] {
  if (canonicalTier(group.serviceTier) !== STANDARD_TIER) return []
  const current = repriceGroup(context.book, context.organizationId, context.atMs, group)
  if (current === undefined) return []
  const subject = subjectOf(group, current.version)
  return (context.hosts.get(hostlessModel(current.version.model)) ?? []).flatMap((version) => {
    if (catalogueProvider(version.provider) === subject.provider) return []
    // Where it would be served is not known: no premium for a region.
    const other = priceGroup(version, group, { provider: version.provider })
    if (other === undefined) return []
    return {
      kind: 'cheaper_provider',
      scope: group.scope,
      subject,
      alternative: { provider: version.provider, model: version.model },
      calledAs: calledAs(group),
      events: group.calls,
      currentUsd: current.costUsd,
      alternativeUsd: other.costUsd,
      priceVersionIds: [current.version.id, version.id],
      // That two hosts of one name serve the same quality is an assumption.
      isGuess: true,
    }
  })
}

import { catalogueProvider } from './provider-aliases.ts'

/**
 * How a provider's service tier changes its list prices. Price catalogues list standard prices only; this is
 * the rest, as data with its source.
 */
export interface ServiceTierPrice {
  /** Catalogue id of the provider. */
  readonly provider: string
  readonly tier: string
  /** Multiplies the price of every token meter; tools (web searches, …) are billed apart, at their own price. */
  readonly tokenMultiplier: string
  readonly source: string
}

/** The tiers of other than standard price whose price is a plain multiple of the standard one. */
export const SERVICE_TIER_PRICES: readonly ServiceTierPrice[] = [
  {
    provider: 'openai',
    tier: 'batch',
    tokenMultiplier: '0.5',
    source: 'https://platform.openai.com/docs/guides/batch: 50% cost discount compared to synchronous APIs',
  },
  {
    provider: 'azure',
    tier: 'batch',
    tokenMultiplier: '0.5',
    source:
      'https://learn.microsoft.com/en-us/azure/ai-services/openai/how-to/batch: 50% less cost than global standard; read 2026-11',
  },
  {
    provider: 'mistral',
    tier: 'batch',
    tokenMultiplier: '0.5',
    source: 'https://docs.mistral.ai/studio-api/batch-processing: at a 50% discount; read 2026-11',
  },
  {
    provider: 'openai',
    tier: 'flex',
    tokenMultiplier: '0.5',
    source:
      'https://platform.openai.com/docs/guides/flex-processing: tokens are priced at Batch API rates, with additional discounts from prompt caching',
  },
  {
    provider: 'anthropic',
    tier: 'batch',
    tokenMultiplier: '0.5',
    source:
      'https://platform.claude.com/docs/en/build-with-claude/batch-processing: all usage is charged at 50% of the standard API prices; the caching multipliers stack with it; web searches cost the same as in regular requests (web search tool, usage and pricing)',
  },
  {
    provider: 'anthropic',
    tier: 'standard_us',
    tokenMultiplier: '1.1',
    source:
      'https://docs.aws.amazon.com/claude-platform/latest/userguide/data-residency.html: a 1.1x pricing multiplier applies to US inference; of the standard tier, as how it combines with others is not said',
  },
  {
    provider: 'google',
    tier: 'flex',
    tokenMultiplier: '0.5',
    source: 'https://ai.google.dev/gemini-api/docs/optimization: 50% discount; read 2026-11',
  },
  {
    provider: 'google',
    tier: 'batch',
    tokenMultiplier: '0.5',
    source: 'https://ai.google.dev/gemini-api/docs/optimization: 50% discount; read 2026-11',
  },
]

/**
 * Names for the standard price. `auto` is what was asked for, not what was given: it stands in an event only
 * when the provider did not say which tier it used, and then is the standard one.
 */
const STANDARD_TIERS: ReadonlySet<string> = new Set([
  'default',
  'standard',
  'standard_only',
  'auto',
  'on_demand',
  'on-demand',
])

/**
 * A tier's name for comparing: in lower case, and `default` for every name of the standard tier. No tier is the
 * standard one.
 */
export function canonicalTier(serviceTier: string | undefined): string {
  if (serviceTier === undefined) return STANDARD_TIER
  const tier = serviceTier.toLowerCase()
  return STANDARD_TIERS.has(tier) ? STANDARD_TIER : tier
}

/** The name of the tier that has the list price. */
export const STANDARD_TIER = 'default'

const MULTIPLIERS: ReadonlyMap<string, string> = new Map(
  SERVICE_TIER_PRICES.map(({ provider, tier, tokenMultiplier }) => [`${provider} ${tier}`, tokenMultiplier]),
)

/**
 * What a tier multiplies token prices by, `'1'` for the standard ones; undefined when the price of the tier is no
 * known multiple. Then a call has a price only if a version is for that tier (`PriceVersion.serviceTier`); else
 * it has none, which says less than a wrong one and says it aloud:
 *
 * - `batch` of Groq and Together: a discount that differs by model or by source ("25%", "up to 50%");
 * - `priority`, `fast`, `ultrafast`, `performance`, Vertex `on_demand_…`: other prices for each model, not a common
 *   multiple; the catalogue has versions for those that the vendor publishes;
 * - OpenAI `scale`, Anthropic `priority`, Bedrock `reserved`, Vertex `provisioned_throughput`: capacity bought
 *   by contract, whose tokens have no list price (Anthropic: https://platform.claude.com/docs/en/api/service-tiers).
 */
export function tokenMultiplier(provider: string, serviceTier: string | undefined): string | undefined {
  if (serviceTier === undefined) return '1'
  const tier = serviceTier.toLowerCase()
  if (STANDARD_TIERS.has(tier)) return '1'
  return MULTIPLIERS.get(`${catalogueProvider(provider)} ${tier}`)
}

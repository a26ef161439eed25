import type { ModelMatch, Rate } from '@tokentally/core'
import { type CatalogueModel, withEdition } from './catalogue-model.ts'

/**
 * Prices of service tiers that are no common multiple of the standard price, for each model that the vendor
 * publishes one of. What is not here has no known price at the tier.
 */

/** US dollars for a million tokens, as the vendor quotes them. */
interface TierPrice {
  readonly provider: string
  readonly tier: string
  readonly source: string
  /** The catalogue's id. */
  readonly model: string
  /** The names that the vendor quotes the price for. */
  readonly match: ModelMatch
  readonly input: string
  readonly output: string
  readonly cacheRead?: string
  readonly cacheWrite?: string
  readonly cacheWrite1h?: string
  /** The price is published for requests of this size at most. */
  readonly inputTokensMax?: number
}

/**
 * "Excludes long context" stands with every model on OpenAI's page, which explains it as requests estimated at more
 * than 128K prompt tokens.
 */
const OPENAI_LONG_CONTEXT = 128_000
const OPENAI_SOURCE = 'https://openai.com/api-priority-processing/ (read 2026-11)'
const openai = (
  model: string,
  names: readonly string[],
  input: string,
  cacheRead: string | undefined,
  output: string,
): TierPrice => ({
  provider: 'openai',
  tier: 'priority',
  source: OPENAI_SOURCE,
  model,
  match: { or: names.map((equals) => ({ equals })) },
  input,
  output,
  ...(cacheRead !== undefined && { cacheRead }),
  inputTokensMax: OPENAI_LONG_CONTEXT,
})

const PRICES: readonly TierPrice[] = [
  openai('gpt-5.5', ['gpt-5.5', 'gpt-5.5-2026-04-23'], '12.5', '1.25', '75'),
  openai('gpt-5.4-mini', ['gpt-5.4-mini', 'gpt-5.4-mini-2026-03-17'], '1.5', '0.15', '9'),
  openai('gpt-5.4', ['gpt-5.4', 'gpt-5.4-2026-03-05'], '5', '0.5', '30'),
  openai('gpt-5.2', ['gpt-5.2', 'gpt-5.2-2025-12-11'], '3.5', '0.35', '28'),
  openai('gpt-5.1', ['gpt-5.1', 'gpt-5.1-2025-11-13', 'gpt-5.1-codex'], '2.5', '0.25', '20'),
  openai('gpt-5', ['gpt-5', 'gpt-5-2025-08-07', 'gpt-5-codex'], '2.5', '0.25', '20'),
  openai('gpt-5-mini', ['gpt-5-mini', 'gpt-5-mini-2025-08-07'], '0.45', '0.045', '3.6'),
  openai('gpt-4.1', ['gpt-4.1', 'gpt-4.1-2025-04-14'], '3.5', '0.875', '14'),
  openai('gpt-4.1-mini', ['gpt-4.1-mini', 'gpt-4.1-mini-2025-04-14'], '0.7', '0.175', '2.8'),
  openai('gpt-4.1-nano', ['gpt-4.1-nano', 'gpt-4.1-nano-2025-04-14'], '0.2', '0.05', '0.8'),
  openai('gpt-4o', ['gpt-4o', 'gpt-4o-2024-11-20', 'gpt-4o-2024-08-06'], '4.25', '2.125', '17'),
  openai('gpt-4o-2024-05-13', ['gpt-4o-2024-05-13'], '8.75', undefined, '26.25'),
  openai('gpt-4o-mini', ['gpt-4o-mini', 'gpt-4o-mini-2024-07-18'], '0.25', '0.125', '1'),
  openai('o3', ['o3', 'o3-2025-04-16'], '3.5', '0.875', '14'),
  openai('o4-mini', ['o4-mini', 'o4-mini-2025-04-16'], '2', '0.5', '8'),
  // Six times the standard rates for prompts of at most 200K tokens; the multipliers of prompt caching come on top.
  // Of larger prompts and of other models no price could be read.
  {
    provider: 'anthropic',
    tier: 'fast',
    source: 'https://platform.claude.com/docs/en/build-with-claude/fast-mode (read 2026-11)',
    model: 'claude-opus-4-6',
    match: { starts_with: 'claude-opus-4-6' },
    input: '30',
    output: '150',
    cacheRead: '3',
    cacheWrite: '37.5',
    cacheWrite1h: '60',
    inputTokensMax: 200_000,
  },
]

/** Tools are billed apart, at the same price in every tier. */
const TOOLS: Readonly<Record<string, Readonly<Record<string, Rate>>>> = {
  openai: {
    web_search_requests: { per: 1000, price: '10' },
    file_search_requests: { per: 1000, price: '2.5' },
  },
  anthropic: { web_search_requests: { per: 1000, price: '10' } },
}

/** The published prices of service tiers, in the catalogue's form. */
export function tierPrices(): readonly CatalogueModel[] {
  return PRICES.map((price) => ({
    source: price.source,
    ...withEdition({
      provider: price.provider,
      model: price.model,
      serviceTier: price.tier,
      match: price.match,
      prices: [
        {
          startMs: null,
          ...(price.inputTokensMax !== undefined && { inputTokensMax: price.inputTokensMax }),
          rates: {
            ...perMillion('input_tokens', price.input),
            ...perMillion('cache_read_tokens', price.cacheRead),
            ...perMillion('cache_write_tokens', price.cacheWrite),
            ...perMillion('cache_write_1h_tokens', price.cacheWrite1h),
            ...perMillion('output_tokens', price.output),
            ...TOOLS[price.provider],
          },
        },
      ],
    }),
  }))
}

function perMillion(meter: string, price: string | undefined): Readonly<Record<string, Rate>> {
  return price === undefined ? {} : { [meter]: { per: 1_000_000, price } }
}

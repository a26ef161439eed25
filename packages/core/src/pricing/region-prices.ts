import { type ModelMatch, modelMatcher } from './model-match.ts'
import { catalogueProvider } from './provider-aliases.ts'

/**
 * How the region that answers changes a provider's list prices. Catalogues list the price of the global endpoint;
 * this is the rest, as data with its source. Amazon Bedrock is not here: the catalogue lists its regional and
 * its global inference profiles apart, by name.
 */
export interface RegionPrice {
  /** Catalogue id of the provider that is called. */
  readonly provider: string
  /** The regions that cost more, in lower case; `exceptRegions`: all others do. */
  readonly regions?: readonly string[]
  readonly exceptRegions?: readonly string[]
  /** By the catalogue's id of the model. */
  readonly models: ModelMatch
  readonly exceptModels?: ModelMatch
  /** Multiplies the price of every token meter, at the standard tier. */
  readonly tokenMultiplier: string
  readonly source: string
}

/** The regions of other than list price whose price is a plain multiple of it. */
export const REGION_PRICES: readonly RegionPrice[] = [
  {
    provider: 'google',
    // Of the multi-region endpoints no price is published; they have the list price until one is.
    exceptRegions: ['global', 'us', 'eu'],
    models: { contains: 'claude' },
    exceptModels: {
      or: [
        { starts_with: 'claude-3' },
        { starts_with: 'claude-4-opus' },
        { starts_with: 'claude-4-sonnet' },
        { equals: 'claude-opus-4' },
        { equals: 'claude-opus-4-0' },
        { equals: 'claude-opus-4-1' },
        { equals: 'claude-sonnet-4' },
        { equals: 'claude-sonnet-4-0' },
      ],
    },
    tokenMultiplier: '1.1',
    source:
      'https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai: from Claude Sonnet 4.5 on, regional endpoints have a 10% premium over global ones; earlier models keep their prices; read 2026-11',
  },
  {
    provider: 'openai',
    regions: ['eu', 'us'],
    models: { or: [{ equals: 'gpt-5.4' }, { equals: 'gpt-5.4-pro' }] },
    tokenMultiplier: '1.1',
    source:
      'https://developers.openai.com/api/docs/models/gpt-5.4-pro: regional processing (data residency) endpoints are charged a 10% uplift for GPT-5.4 and GPT-5.4 pro; read 2026-11',
  },
]

const BY_PROVIDER = Map.groupBy(
  REGION_PRICES.map((price) => ({
    ...price,
    isModel: modelMatcher(price.models),
    isException: price.exceptModels === undefined ? () => false : modelMatcher(price.exceptModels),
  })),
  ({ provider }) => provider,
)

/**
 * What a region multiplies the token prices of the catalogue by; `'1'` where nothing else is known.
 *
 * @param provider as on the event
 * @param model the catalogue's id of the model
 */
export function regionMultiplier(provider: string, region: string, model: string): string {
  const prices = BY_PROVIDER.get(catalogueProvider(provider))
  if (prices === undefined) return '1'
  const place = region.toLowerCase()
  const name = model.toLowerCase()
  const found = prices.find(
    ({ regions, exceptRegions, isModel, isException }) =>
      (regions === undefined || regions.includes(place)) &&
      exceptRegions?.includes(place) !== true &&
      isModel(name) &&
      !isException(name),
  )
  return found?.tokenMultiplier ?? '1'
}

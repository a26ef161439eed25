import { calcPrice, type Provider, waitForUpdate } from '@pydantic/genai-prices'
import { buildPriceBook, decimalText, type PriceVersion, rate, type UsageEvent } from '@tokentally/core'
import { beforeAll, describe, expect, it } from 'vitest'
import { bundledCatalogue, bundledCatalogueSource, catalogueModels, cataloguePriceId } from './catalogue.ts'
import type { CatalogueModel } from './catalogue-model.ts'
import { ratesFromCatalogue } from './catalogue-rates.ts'

const ORGANIZATION = '0197a1b2-0000-7000-8000-000000000001'

let providers: readonly Provider[]
let catalogue: readonly CatalogueModel[]

beforeAll(async () => {
  providers = (await waitForUpdate()) ?? []
  catalogue = await bundledCatalogue()
})

/** The versions that a first import makes. */
function firstVersions(models: readonly CatalogueModel[]): readonly PriceVersion[] {
  return models
    .flatMap((model) =>
      model.prices.map((price, position) => ({
        id: cataloguePriceId(model, position, null),
        organizationId: null,
        provider: model.provider,
        model: model.model,
        match: model.match,
        effectiveFromMs: price.startMs,
        timeOfDay: price.timeOfDay,
        serviceTier: model.serviceTier,
        inputTokensMax: price.inputTokensMax,
        rates: price.rates,
        source: 'test',
      })),
    )
    .map((version, sequence) => ({ ...version, sequence }))
}

function call(provider: string, model: string, quantities: Record<string, number>, tsMs: number): UsageEvent {
  return {
    eventId: 'e1',
    tsMs,
    provider,
    model,
    operation: 'chat',
    quantities,
    status: 'ok',
    streamed: false,
    estimated: false,
  }
}

describe('the catalogue', () => {
  it('has the prices of more than a thousand models, and says where it is from', () => {
    expect(catalogue.length).toBeGreaterThan(1000)
    expect(bundledCatalogueSource()).toMatch(/^@pydantic\/genai-prices \d+\.\d+\.\d+/)
  })

  it('lists models by id, which decides between models that fit one name', () => {
    for (const { models } of providers) {
      const ids = models.map(({ id }) => id)
      expect(ids).toEqual(ids.toSorted())
    }
  })

  it('gives every version an id of its own that depends on its content alone', async () => {
    const ids = firstVersions(catalogue).map(({ id }) => id)
    expect(new Set(ids).size).toBe(ids.length)
    expect(firstVersions(await bundledCatalogue()).map(({ id }) => id)).toEqual(ids)
    for (const id of ids.slice(0, 100))
      expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  })

  it('another price is another edition', () => {
    const model = (price: number): Provider => ({
      id: 'acme',
      name: 'Acme',
      api_pattern: '',
      models: [{ id: 'a', match: { equals: 'a' }, prices: { input_mtok: price } }],
    })
    const [one, two] = catalogueModels([model(1), model(2)])
    expect(one?.edition).not.toBe(two?.edition)
    expect(catalogueModels([model(1)])[0]?.edition).toBe(one?.edition)
  })
})

describe('a price book of the catalogue agrees with genai-prices', () => {
  const times = [
    Date.UTC(2025, 5, 9, 23, 59, 59, 999),
    Date.UTC(2025, 5, 10),
    Date.UTC(2026, 7, 18, 2),
    Date.UTC(2026, 7, 18, 20),
    Date.UTC(2027, 2, 1, 8),
  ]
  const quantities = { input_tokens: 300_001, cache_read_tokens: 100_000, output_tokens: 1234 }

  it('on the model and the cost of every model it lists, at different times', () => {
    const book = buildPriceBook(firstVersions(catalogue), 1)
    let compared = 0
    for (const provider of providers) {
      for (const { id } of provider.models) {
        for (const tsMs of times) {
          const theirs = calcPrice(quantities, id, { providerId: provider.id, timestamp: new Date(tsMs) })
          const ours = rate(ORGANIZATION, call(provider.id, id, quantities, tsMs), book)
          if (theirs === null || ours.status !== 'rated') continue
          const version = book.find(ORGANIZATION, provider.id, [id], tsMs)
          expect(version?.model).toBe(theirs.model.id)
          const difference = Math.abs(Number(decimalText(ours.listCostUsd)) - theirs.total_price)
          expect(difference, `${provider.id} ${id}`).toBeLessThanOrEqual(1e-12 + theirs.total_price * 1e-12)
          compared++
        }
      }
    }
    expect(compared).toBeGreaterThan(5000)
  })

  it('on the history of o3, to the digit', () => {
    const book = buildPriceBook(firstVersions(catalogue), 1)
    const million = { input_tokens: 1_000_000 }
    const costAt = (tsMs: number) =>
      decimalText(rate(ORGANIZATION, call('openai', 'o3', million, tsMs), book).listCostUsd)
    expect(times.slice(0, 2).map(costAt)).toEqual(['10', '2'])
  })
})

describe('a typical call of a provider has a price, by the names that calls are metered under', () => {
  const tokens = { input_tokens: 2000, cache_read_tokens: 1024, output_tokens: 50, reasoning_tokens: 10 }
  it.each<[provider: string, model: string, quantities: Record<string, number>]>([
    ['openai', 'gpt-5-2025-08-07', tokens],
    ['openai', 'gpt-4.1-2025-04-14', { ...tokens, web_search_requests: 2, file_search_requests: 1 }],
    ['openai', 'text-embedding-3-small', { input_tokens: 8 }],
    ['openai', 'gpt-3.5-turbo-instruct', { input_tokens: 5, output_tokens: 7 }],
    [
      'openai',
      'gpt-image-1',
      { input_tokens: 412, image_input_tokens: 388, output_tokens: 1056, image_output_tokens: 1056 },
    ],
    ['openai', 'gpt-4o-transcribe', { input_tokens: 114, audio_input_tokens: 100, output_tokens: 15 }],
    ['openai', 'gpt-4o-mini-tts', { input_tokens: 14, output_tokens: 101, audio_output_tokens: 101 }],
    ['openai', 'whisper-1', { audio_seconds: 9 }],
    ['azure.ai.openai', 'gpt-4o-2024-11-20', tokens],
    ['azure.ai.openai', 'text-embedding-ada-002', { input_tokens: 5 }],
    ['mistral_ai', 'mistral-large-2512', tokens],
    ['mistral_ai', 'mistral-embed', { input_tokens: 14 }],
    ['groq', 'openai/gpt-oss-120b', tokens],
    ['deepseek', 'deepseek-chat', tokens],
    ['deepseek', 'deepseek-reasoner', tokens],
    ['x_ai', 'grok-4-fast-reasoning', tokens],
    ['openrouter', 'openai/gpt-4o-mini', tokens],
    ['together_ai', 'meta-llama/Llama-3.3-70B-Instruct-Turbo', tokens],
    ['gcp.gemini', 'gemini-2.5-flash', { ...tokens, audio_input_tokens: 100, audio_cache_read_tokens: 24 }],
    ['gcp.gemini', 'gemini-3-pro-preview', tokens],
    [
      'gcp.gemini',
      'gemini-2.5-flash-image',
      { input_tokens: 9, output_tokens: 1300, image_output_tokens: 1290 },
    ],
    ['gcp.gemini', 'gemini-embedding-001', { input_tokens: 8 }],
    ['gcp.vertex_ai', 'gemini-2.5-pro', tokens],
    ['gcp.vertex_ai', 'claude-sonnet-4-5@20250929', { ...tokens, cache_write_tokens: 10 }],
    ['gcp.vertex_ai', 'claude-haiku-4-5-20251001', tokens],
    ['cohere', 'command-a-03-2025', { input_tokens: 5, cache_read_tokens: 5, output_tokens: 418 }],
    ['cohere', 'embed-v4.0', { input_tokens: 1023, image_input_tokens: 1020 }],
  ])('%s %s', (provider, model, quantities) => {
    const book = buildPriceBook(firstVersions(catalogue), 1)
    const rating = rate(ORGANIZATION, call(provider, model, quantities, Date.UTC(2026, 10, 24)), book)
    expect(rating).toMatchObject({ status: 'rated', unpricedMeters: [] })
    expect(Number(decimalText(rating.listCostUsd))).toBeGreaterThan(0)
  })
})

describe('the rates of an entry', () => {
  it('keep the literals and the units that the catalogue quotes', () => {
    expect(
      ratesFromCatalogue({
        input_mtok: { base: 0.0028, tiers: [{ start: 200_000, price: 1e-7 }] },
        cache_write_1h_mtok: 6,
        web_searches_kcount: 10,
        output_smell_mtok: 1,
      }),
    ).toEqual({
      input_tokens: {
        per: 1_000_000,
        price: '0.0028',
        tiers: [{ aboveInputTokens: 200_000, price: '0.0000001' }],
      },
      cache_write_1h_tokens: { per: 1_000_000, price: '6' },
      web_search_requests: { per: 1000, price: '10' },
      output_smell_mtok: { per: 1_000_000, price: '1' },
    })
  })

  it('price seconds of audio only where a second has an exact price', () => {
    expect(ratesFromCatalogue({ audio_hours: 0.36, input_audio_hours: 0.36 })).toEqual({
      audio_hours: { per: 1, price: '0.36' },
      audio_seconds: { per: 1, price: '0.0001' },
    })
    expect(ratesFromCatalogue({ audio_hours: 0.04 })).toEqual({ audio_hours: { per: 1, price: '0.04' } })
    expect(ratesFromCatalogue({ audio_hours: 36 })['audio_seconds']).toEqual({ per: 1, price: '0.01' })
  })

  it('are zero only where it is certain that a model is free', () => {
    const entry = (id: string) =>
      catalogueModels([{ id: 'openrouter', models: [{ id, match: { equals: id }, prices: {} }] }])
    expect(entry('acme/one:free')[0]?.prices[0]?.rates).toMatchObject({ input_tokens: { price: '0' } })
    expect(entry('acme/songs')).toEqual([])
  })
})

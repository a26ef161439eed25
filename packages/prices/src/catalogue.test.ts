import { calcPrice, type Provider, waitForUpdate } from '@pydantic/genai-prices'
import { buildPriceBook, decimalText, type PriceVersion, rate, type UsageEvent } from '@tokentally/core'
import { beforeAll, describe, expect, it } from 'vitest'
import {
  bundledCatalogue,
  bundledCatalogueSource,
  type CatalogueModel,
  catalogueModels,
  cataloguePriceId,
} from './catalogue.ts'
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
      catalogueModels([
        { id: 'openrouter', name: '', api_pattern: '', models: [{ id, match: { equals: id }, prices: {} }] },
      ])
    expect(entry('acme/one:free')[0]?.prices[0]?.rates).toMatchObject({ input_tokens: { price: '0' } })
    expect(entry('acme/songs')).toEqual([])
  })
})

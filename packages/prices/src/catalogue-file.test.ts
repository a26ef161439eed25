import { describe, expect, it } from 'vitest'
import { bundledCatalogue } from './catalogue.ts'
import { CatalogueFileError, parseCatalogueFile } from './catalogue-file.ts'
import { catalogueModelSchema } from './catalogue-model.ts'

const file = (prices: string, more = '"match": {"equals": "m"}') =>
  `[{"id": "acme", "name": "Acme", "models": [{"id": "m", ${more}, "prices": ${prices}}]}]`

function issuesOf(text: string): readonly { path: string; message: string }[] {
  try {
    parseCatalogueFile(text)
  } catch (error) {
    if (error instanceof CatalogueFileError) return error.issues
    throw error
  }
  return []
}

describe('a price file', () => {
  it('gives prices to the digit, also those that no float holds', () => {
    const [model] = parseCatalogueFile(
      file(
        '{"input_mtok": 0.123456789012345678, "output_mtok": {"base": 1e-7, "tiers": [{"start": 200000, "price": 2.50}]}}',
      ),
    )
    expect(model?.prices[0]?.rates).toEqual({
      input_tokens: { per: 1_000_000, price: '0.123456789012345678' },
      output_tokens: {
        per: 1_000_000,
        price: '0.0000001',
        tiers: [{ aboveInputTokens: 200_000, price: '2.5' }],
      },
    })
  })

  it('has dates and hours', () => {
    const [model] = parseCatalogueFile(
      file(`[{"prices": {"input_mtok": 1}},
        {"constraint": {"start_date": "2026-07-01", "type": "start_date"}, "prices": {"input_mtok": 2}},
        {"constraint": {"start_time": "16:30:00Z", "end_time": "00:30:00Z"}, "prices": {"input_mtok": 3}}]`),
    )
    expect(model?.prices).toMatchObject([
      { startMs: null },
      { startMs: Date.UTC(2026, 6, 1) },
      { startMs: null, timeOfDay: { startUtc: '16:30:00', endUtc: '00:30:00' } },
    ])
  })

  it.each([
    ['[{', '', /not JSON/],
    ['{}', '', /array/],
    ['[]', '', /no provider/],
    [file('{"input_mtok": -1}'), '[0].models[0].prices.input_mtok', /no price/],
    [file('{"input_mtok": 1e99}'), '[0].models[0].prices.input_mtok', /no price/],
    [file('{"input_mtok": 1e999999999}'), '[0].models[0].prices.input_mtok', /no price/],
    [file('{"input_mtok": "1"}'), '[0].models[0].prices.input_mtok', /a number/],
    [file('[{"prices": {"input_mtok": null}}]'), '[0].models[0].prices[0].prices.input_mtok', /a number/],
    [
      file('[{"constraint": {"start_date": "soon"}, "prices": {}}]'),
      '[0].models[0].prices[0].constraint',
      /start date/,
    ],
    [file('{"input_mtok": 1}', '"match": {"regex": "("}'), '[0].models[0].match', /regular expression/i],
    [file('{"input_mtok": 1}', '"match": {"like": "m"}'), '[0].models[0].match', /./],
    [
      `[{"id": "acme", "models": [
        {"id": "m", "match": {"equals": "m"}, "prices": {"input_mtok": 1}},
        {"id": "m", "match": {"equals": "n"}, "prices": {"input_mtok": 2}}]}]`,
      'acme/m',
      /twice/,
    ],
  ])('that is broken is refused as a whole, and says where: %#', (text, path, message) => {
    const [issue] = issuesOf(text)
    expect(issue?.path).toBe(path)
    expect(issue?.message).toMatch(message)
  })
})

it('every entry of the catalogue survives being stored', async () => {
  for (const model of await bundledCatalogue())
    expect(catalogueModelSchema.parse(JSON.parse(JSON.stringify(model)))).toEqual(model)
})

it('has priority and fast prices of models that the catalogue knows, and says where they are from', async () => {
  const catalogue = await bundledCatalogue()
  const standard = new Set(
    catalogue
      .filter(({ serviceTier }) => serviceTier === undefined)
      .map(({ provider, model }) => `${provider}/${model}`),
  )
  const tiers = catalogue.filter(({ serviceTier }) => serviceTier !== undefined)
  expect(tiers.length).toBeGreaterThan(10)
  for (const { provider, model, source } of tiers) {
    expect(standard).toContain(`${provider}/${model}`)
    expect(source).toMatch(/^https:/)
  }
})

import { buildPriceBook, decimalText, rate } from '@tokentally/core'
import { expect, it } from 'vitest'
import { bundledCatalogue, cataloguePriceId } from './catalogue.ts'

const ORGANIZATION = '0197a1b2-0000-7000-8000-000000000001'

// A million tokens each way, with a profile's prefix and without: Claude costs a tenth more in a region.
it.each([
  ['us.anthropic.claude-sonnet-4-5-20250929-v1:0', '19.8'],
  ['global.anthropic.claude-sonnet-4-5-20250929-v1:0', '18'],
  ['apac.anthropic.claude-3-5-sonnet-20240620-v1:0', '18'],
  ['eu.amazon.nova-lite-v1:0', '0.3'],
  ['us.meta.llama3-3-70b-instruct-v1:0', '1.44'],
  ['openai.gpt-oss-120b-1:0', '0.75'],
])('Bedrock’s %s has a price', async (model, costUsd) => {
  const versions = (await bundledCatalogue())
    .filter(({ provider }) => provider === 'aws')
    .flatMap((listed) =>
      listed.prices.map((price, position) => ({
        id: cataloguePriceId(listed, position, null),
        organizationId: null,
        provider: listed.provider,
        model: listed.model,
        match: listed.match,
        effectiveFromMs: price.startMs,
        timeOfDay: price.timeOfDay,
        rates: price.rates,
        source: 'test',
      })),
    )
    .map((version, sequence) => ({ ...version, sequence }))
  const rated = rate(
    ORGANIZATION,
    {
      eventId: 'e1',
      tsMs: Date.UTC(2026, 10, 1),
      provider: 'aws.bedrock',
      model,
      operation: 'chat',
      quantities: { input_tokens: 1_000_000, output_tokens: 1_000_000 },
      status: 'ok',
      streamed: false,
      estimated: false,
    },
    buildPriceBook(versions, 1),
  )
  expect(rated.status).toBe('rated')
  expect(decimalText(rated.listCostUsd)).toBe(costUsd)
})

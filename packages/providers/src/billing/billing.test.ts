import { readFile } from 'node:fs/promises'
import { decimal, decimalText } from '@tokentally/core'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { amountOf, dayOfText, numbersAsText } from './amounts.ts'
import { readAwsLine } from './aws-cur.ts'
import { readAzureLine } from './azure-costs.ts'
import { BillingError } from './billing-error.ts'
import { columnName } from './columns.ts'
import { reportFormatOf } from './formats.ts'
import { readGoogleLine } from './google-billing.ts'

const transcript = async (name: string): Promise<unknown> =>
  JSON.parse(
    numbersAsText(await readFile(new URL(`../../transcripts/billing/${name}.json`, import.meta.url), 'utf8')),
  )
const read = async (name: string) => {
  const page = await transcript(name)
  const format = reportFormatOf(page)
  if (format === undefined) throw new Error('of no known format')
  return { source: format.source, ...format.read(page) }
}

describe('reports', () => {
  it("take OpenAI's input apart into disjoint meters", async () => {
    const { source, part, days, rows } = await read('openai-usage-completions')
    expect([source, part, days]).toEqual(['openai_usage', 'completions', ['2026-11-03', '2026-11-04']])
    expect(
      rows.map(({ meter, quantity, serviceTier, keyId }) => [meter, quantity, serviceTier, keyId]),
    ).toEqual([
      ['input_tokens', '3300', 'default', 'key_abc'],
      ['cache_read_tokens', '1100', 'default', 'key_abc'],
      ['cache_write_tokens', '300', 'default', 'key_abc'],
      ['audio_input_tokens', '200', 'default', 'key_abc'],
      ['audio_cache_read_tokens', '100', 'default', 'key_abc'],
      ['output_tokens', '750', 'default', 'key_abc'],
      ['audio_output_tokens', '150', 'default', 'key_abc'],
      ['input_tokens', '700', 'batch', null],
      ['output_tokens', '70', 'batch', null],
    ])
  })

  it("read OpenAI's costs to the last digit that stands there", async () => {
    const { rows } = await read('openai-costs')
    expect(
      rows.map(({ kind, model, meter, quantity, costUsd }) => [kind, model, meter, quantity, costUsd]),
    ).toEqual([
      ['usage', 'gpt-4o-mini-2024-07-18', 'cache_read_tokens', '1646090', '0.1234567890123456789012'],
      ['usage', 'gpt-4o-mini-2024-07-18', 'input_tokens', '1', '0.00000015'],
      ['other', 'file search storage', null, null, '0.1'],
    ])
  })

  it("read Anthropic's cents", async () => {
    const { source, rows } = await read('anthropic-cost-report')
    expect(source).toBe('anthropic_costs')
    expect(rows.map(({ kind, meter, serviceTier, costUsd }) => [kind, meter, serviceTier, costUsd])).toEqual([
      ['usage', 'cache_write_1h_tokens', 'batch', '1.2378912'],
      ['other', null, null, '0.2'],
    ])
  })
})

describe('lines of bills', () => {
  it.each([
    ['USE1-Claude4.6Sonnet-input-tokens', 'Claude4.6Sonnet', 'input_tokens', 'default'],
    [
      'USW2-Claude4.6Sonnet-cache-write-input-token-count',
      'Claude4.6Sonnet',
      'cache_write_tokens',
      'default',
    ],
    [
      'EUC1-Claude4.5Sonnet-cache-read-input-token-count-cross-region-global',
      'Claude4.5Sonnet',
      'cache_read_tokens',
      'default',
    ],
    [
      'USW2-anthropic.claude-opus-4-8-mantle-output-tokens-batch',
      'anthropic.claude-opus-4-8',
      'output_tokens',
      'batch',
    ],
    ['USE1-NovaLite-output-tokens', 'NovaLite', 'output_tokens', 'default'],
  ])('of AWS: %s', (usageType, model, meter, serviceTier) => {
    const [row] = readAwsLine({
      line_item_product_code: 'AmazonBedrock',
      line_item_line_item_type: 'Usage',
      line_item_usage_start_date: '2026-11-03T07:00:00.000Z',
      line_item_usage_type: usageType,
      line_item_usage_amount: '29.481',
      line_item_unblended_cost: '9.72873E-2',
    })
    expect(row).toMatchObject({
      kind: 'usage',
      day: '2026-11-03',
      model,
      meter,
      serviceTier,
      quantity: '29481',
      costUsd: '0.0972873',
    })
  })

  it.each([
    ['gpt-4o-mini-0718-Inp-glbl Tokens', '1K', 'gpt-4o-mini-0718', 'input_tokens', '3000', 'default'],
    ['gpt 4.1 cached Inp Data Zone Tokens', '1M', 'gpt-4.1', 'cache_read_tokens', '3000000', 'default'],
    ['GPT 5.1 opt Gl 1M Tokens', '1M', 'GPT-5.1', 'output_tokens', '3000000', 'default'],
    ['5.4 opt Dz 1M Tokens', '1M', 'gpt-5.4', 'output_tokens', '3000000', 'default'],
    ['gpt-4o-0806-Batch-Outp-glbl Tokens', '1K', 'gpt-4o-0806', 'output_tokens', '3000', 'batch'],
    ['gpt 4o aud 1217 Inp glbl Tokens', '1K', 'gpt-4o-1217', 'audio_input_tokens', '3000', 'default'],
  ])('of Azure: %s', (name, unit, model, meter, quantity, serviceTier) => {
    const line = {
      meter_category: 'Azure OpenAI',
      meter_name: name,
      unit_of_measure: unit,
      date: '11/03/2026',
      quantity: '3',
      cost_in_usd: '.5',
    }
    expect(readAzureLine(line)).toMatchObject([
      { kind: 'usage', day: '2026-11-03', model, meter, quantity, serviceTier, costUsd: '0.5' },
    ])
  })

  it.each([
    ['Gemini 2.5 Flash GA Text Input - Predictions', 'Gemini 2.5 Flash', 'input_tokens', 'default'],
    [
      'Gemini 2.5 Flash GA Thinking Text Output - Predictions',
      'Gemini 2.5 Flash',
      'output_tokens',
      'default',
    ],
    ['Gemini 3 Flash Text Input Caching', 'Gemini 3 Flash', 'cache_read_tokens', 'default'],
    ['Gemini 2.0 Flash Audio Input - Batch Predictions', 'Gemini 2.0 Flash', 'audio_input_tokens', 'batch'],
  ])('of Google: %s', (sku, model, meter, serviceTier) => {
    const line = {
      service_description: 'Vertex AI',
      sku_description: sku,
      usage_start_time: '2026-11-03 07:00:00 UTC',
      usage_amount: '5',
      usage_unit: 'count',
      cost: '1',
      currency: 'EUR',
      currency_conversion_rate: '0.8',
    }
    expect(readGoogleLine(line)).toMatchObject([
      { kind: 'usage', model, meter, serviceTier, quantity: '5', costUsd: '1.25' },
    ])
  })

  it('of other services are left out', () => {
    expect(readAwsLine({ line_item_product_code: 'AmazonEC2' })).toEqual([])
    expect(readAzureLine({ meter_category: 'Virtual Machines', meter_name: 'D2s v3' })).toEqual([])
    expect(readGoogleLine({ service_description: 'Compute Engine', sku_description: 'N1 Core' })).toEqual([])
  })

  it('have one name for a column', () => {
    const same = [
      ['lineItem/UsageType', 'line_item_usage_type'],
      ['MeterName', 'meterName', 'meter_name'],
      ['service.description', 'service_description'],
    ]
    for (const names of same) expect(new Set(names.map(columnName)).size, names.join()).toBe(1)
  })
})

describe('amounts', () => {
  it('are read as they were written, whatever JSON could lose', () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: -(10n ** 30n), max: 10n ** 30n }),
        fc.nat(25),
        fc.string(),
        (digits, scale, text) => {
          const written = `${digits}e-${scale}`
          const parsed: unknown = JSON.parse(
            numbersAsText(`{"amount": ${written}, "text": ${JSON.stringify(text)}}`),
          )
          expect(parsed).toEqual({ amount: written, text })
          expect(decimalText(amountOf('amount', written))).toBe(decimalText(decimal(written)))
        },
      ),
    )
  })

  it.each(['', 'x', '1,5', '--1', '1e', '0x1', 'NaN', '1.2.3'])('refuse %j', (text) => {
    expect(() => amountOf('cost', text)).toThrow(BillingError)
  })

  it.each(['2026-02-30', '13/01/2026', '', 'yesterday'])('refuse the date %j', (text) => {
    expect(() => dayOfText('date', text)).toThrow(BillingError)
  })
})

import { createServer, type Server } from 'node:http'
import { gzipSync } from 'node:zlib'
import { decimal, decimalText } from '@tokentally/core'
import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import {
  createTestDatabase,
  startService,
  type TestDatabase,
  type TestService,
  waitFor,
} from '../harness/index.ts'
import { call, createKey, pathsOf, problemOf, sendUsage, submissionOf } from './api-client.ts'

/** What vendors say, beside the ledger. */

let database: TestDatabase
let service: TestService
const NOW = new Date('2026-11-20T12:00:00Z')
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({
    databaseUrl: database.url,
    now: () => NOW,
    environment: { TOKENTALLY_WEBHOOK_ALLOW: '127.0.0.1' },
  })
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})
beforeEach(async () => {
  await database.pool.query('delete from vendor_row')
  await database.pool.query('delete from vendor_import')
})

const send = (body: string | Uint8Array, query = '', type = 'application/json') =>
  call(service, `/api/v1/reconciliation/imports${query}`, {
    method: 'POST',
    body,
    headers: { 'content-type': type },
  })
const importSchema = z.object({
  id: z.string(),
  source: z.string(),
  part: z.string(),
  days: z.array(z.string()),
  lines: z.number(),
  ignored_lines: z.number(),
  repeated: z.boolean(),
})
const sent = async (body: string | Uint8Array, query = '', type = 'application/json') => {
  const answer = await send(body, query, type)
  expect([answer.status, answer.text]).toEqual([expect.toBeOneOf([200, 201]), expect.any(String)])
  return importSchema.parse(answer.json)
}
const causeSchema = z.object({
  cause: z.string(),
  quantity: z.string(),
  cost: z.string().nullable(),
  details: z.array(z.string()),
})
const comparisonSchema = z.object({
  vendor_quantity: z.string().nullable(),
  ledger_quantity: z.string(),
  difference_quantity: z.string().nullable(),
  vendor_cost: z.string().nullable(),
  ledger_cost: z.string(),
  difference_cost: z.string().nullable(),
  matches: z.boolean(),
  causes: z.array(causeSchema),
})
const reportSchema = z.object({
  vendors: z.array(
    z.object({
      vendor: z.string(),
      days: z.array(z.string()),
      days_without_figures: z.array(z.string()),
      coverage: z.object({ tokens_percent: z.string().nullable(), cost_percent: z.string().nullable() }),
      totals: comparisonSchema,
      rows: z.array(
        comparisonSchema.extend({
          day: z.string().nullable(),
          model: z.string().nullable(),
          meter: z.string().nullable(),
        }),
      ),
    }),
  ),
})
const report = async (query: string) => {
  const answer = await call(service, `/api/v1/reconciliation?${query}`)
  expect([answer.status, answer.text]).toEqual([200, expect.any(String)])
  return reportSchema.parse(answer.json)
}
const reportOf = async (query: string) => {
  const { vendors } = await report(query)
  const [first] = vendors
  if (first === undefined || vendors.length > 1) throw new Error(`${vendors.length} vendors`)
  return first
}

const seconds = (day: string) => Date.parse(`${day}T00:00:00Z`) / 1000
/** A page as OpenAI answers it, with every field that its reference names. */
const openaiUsage = (day: string, results: readonly object[]) =>
  JSON.stringify({
    object: 'page',
    data: [
      {
        object: 'bucket',
        start_time: seconds(day),
        end_time: seconds(day) + 86_400,
        results: results.map((result) => ({
          object: 'organization.usage.completions.result',
          num_model_requests: 1,
          input_cached_tokens: 0,
          input_audio_tokens: 0,
          output_audio_tokens: 0,
          project_id: 'proj_a',
          user_id: null,
          api_key_id: 'key_a',
          batch: false,
          service_tier: 'default',
          ...result,
        })),
      },
    ],
    has_more: false,
    next_page: null,
  })
const openaiCosts = (
  day: string,
  items: readonly (readonly [item: string, value: string, quantity: number])[],
) =>
  // Numbers are written by hand: those of JavaScript would lose digits.
  `{"object":"page","data":[{"object":"bucket","start_time":${seconds(day)},"end_time":${seconds(day) + 86_400},"results":[${items
    .map(
      ([item, value, quantity]) =>
        `{"object":"organization.costs.result","amount":{"value":${value},"currency":"usd"},"line_item":${JSON.stringify(item)},"project_id":null,"quantity":${quantity},"quantity_unit":"tokens"}`,
    )
    .join(',')}]}],"has_more":false,"next_page":null}`

const event = (id: string, ts: string, fields: object) => ({
  event_id: id,
  ts,
  provider: 'openai',
  ...fields,
})

describe('OpenAI', () => {
  const day = '2026-11-03'
  const usage = [
    { input_tokens: 1200, input_cached_tokens: 200, output_tokens: 300, model: 'gpt-4o-mini-2024-07-18' },
  ]
  // 1000 × 0.15, 200 × 0.075 and 300 × 0.6 US dollars a million.
  const costs = [
    ['gpt-4o-mini-2024-07-18, input', '0.00015', 1000],
    ['gpt-4o-mini-2024-07-18, cached input', '0.000015', 200],
    ['gpt-4o-mini-2024-07-18, output', '0.00018', 300],
  ] as const
  beforeAll(async () => {
    submissionOf(
      await sendUsage(service, [
        event('o1', `${day}T08:00:00Z`, {
          model: 'gpt-4o-mini',
          input_tokens: 700,
          cache_read_tokens: 200,
          output_tokens: 100,
          service_tier: 'default',
        }),
        event('o2', `${day}T23:59:59Z`, {
          model: 'gpt-4o-mini',
          response_model: 'gpt-4o-mini-2024-07-18',
          input_tokens: 500,
          output_tokens: 200,
          reasoning_tokens: 150,
        }),
        event('o3', `${day}T09:00:00Z`, {
          model: 'gpt-4o-mini',
          input_tokens: 500,
          output_tokens: 0,
          status: 'error',
        }),
      ]),
    )
  })

  it('agrees with the ledger to the last digit', async () => {
    expect(await sent(openaiUsage(day, usage))).toMatchObject({
      source: 'openai_usage',
      part: 'completions',
      days: [day],
      repeated: false,
    })
    expect(await sent(openaiCosts(day, costs))).toMatchObject({ source: 'openai_costs', days: [day] })
    const found = await reportOf(`vendor=openai&start=${day}&end=2026-11-05`)
    expect(found.totals).toMatchObject({
      vendor_quantity: '1500',
      ledger_quantity: '1500',
      vendor_cost: '0.000345',
      ledger_cost: '0.000345',
      matches: true,
      causes: [],
    })
    expect(found.coverage).toEqual(expect.objectContaining({ tokens_percent: '100', cost_percent: '100' }))
    expect([found.days, found.days_without_figures]).toEqual([[day], ['2026-11-04']])
    expect(found.rows.map(({ meter, vendor_quantity: quantity }) => [meter, quantity])).toEqual([
      ['cache_read_tokens', '200'],
      ['input_tokens', '1000'],
      ['output_tokens', '300'],
    ])
  })

  it('names the key that nobody metered', async () => {
    await sent(
      openaiUsage(day, [
        ...usage,
        { input_tokens: 40, output_tokens: 2, model: 'gpt-4o-mini-2024-07-18', api_key_id: 'key_b' },
      ]),
    )
    const found = await reportOf(`vendor=openai&start=${day}&end=2026-11-04&group_by=model`)
    expect(found.totals.causes).toEqual([
      {
        cause: 'unmetered_key',
        quantity: '42',
        cost: '0.0000072',
        details: [expect.stringContaining('key_b')],
      },
    ])
    expect(found.coverage.tokens_percent).toBe('97.2763')
  })

  it('counts a file once, and a newer one for its days', async () => {
    const file = openaiUsage(day, usage)
    const first = await sent(file)
    expect(await sent(file)).toEqual({ ...first, repeated: true })
    expect(await sent(gzipSync(file), '', 'application/gzip')).toEqual({ ...first, repeated: true })
    const newer = await sent(openaiUsage(day, [{ ...usage[0], output_tokens: 310 }]))
    const total = async () =>
      (await reportOf(`vendor=openai&start=${day}&end=2026-11-04`)).totals.vendor_quantity
    expect(await total()).toBe('1510')
    expect(
      (await call(service, `/api/v1/reconciliation/imports/${newer.id}`, { method: 'DELETE' })).status,
    ).toBe(204)
    expect(await total()).toBe('1500')
    problemOf(await call(service, `/api/v1/reconciliation/imports/${newer.id}`), 404)
    const listed = await call(service, '/api/v1/reconciliation/imports?limit=1')
    expect(listed.json).toMatchObject({ imports: [{ id: first.id }], next_cursor: null })
  })

  it('writes rows as CSV and as NDJSON', async () => {
    await sent(openaiUsage(day, usage))
    const csv = await call(
      service,
      `/api/v1/reconciliation?vendor=openai&start=${day}&end=2026-11-04&format=csv`,
    )
    expect(csv.headers.get('content-type')).toBe('text/csv; charset=utf-8')
    expect(csv.text.split('\r\n').slice(0, 2)).toEqual([
      expect.stringMatching(/^vendor,day,model,meter,vendor_quantity,.*,causes$/),
      expect.stringMatching(/^openai,2026-11-03,gpt-4o-mini,cache_read_tokens,200,200,0,/),
    ])
    const ndjson = await call(
      service,
      `/api/v1/reconciliation?vendor=openai&start=${day}&end=2026-11-04&format=ndjson`,
    )
    expect(
      ndjson.text
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toHaveLength(3)
  })
})

describe('a month of calls', () => {
  const DAYS = 28
  const dayOf = (index: number) => new Date(Date.UTC(2026, 8, 1 + index)).toISOString().slice(0, 10)
  const prices: Readonly<Record<string, readonly [input: string, cached: string, output: string]>> = {
    'gpt-4o-mini': ['0.00000015', '0.000000075', '0.0000006'],
    'gpt-4o': ['0.0000025', '0.00000125', '0.00001'],
  }
  const names: Readonly<Record<string, string>> = {
    'gpt-4o-mini': 'gpt-4o-mini-2024-07-18',
    'gpt-4o': 'gpt-4o-2024-08-06',
  }
  const tenant = fc.record({
    day: fc.nat(DAYS - 1),
    second: fc.nat(86_399),
    model: fc.constantFrom('gpt-4o-mini', 'gpt-4o'),
    tier: fc.constantFrom('default', 'batch', 'flex'),
    key: fc.constantFrom('key_a', 'key_b'),
    input: fc.integer({ min: 1, max: 50_000 }),
    cached: fc.nat(20_000),
    output: fc.integer({ min: 1, max: 5_000 }),
  })
  const calls = fc.sample(tenant, { numRuns: 500, seed: 11 })

  type VendorCall = Omit<(typeof calls)[number], 'key'> & { readonly key: string }

  /** What OpenAI answers about these calls: usage by model, key and tier, costs by line item. */
  const filesOf = (all: readonly VendorCall[]): readonly [usage: string, costs: string] => {
    const days = [...Map.groupBy(all, (one) => one.day)].toSorted(([a], [b]) => a - b)
    const usage = days.map(([day, ofDay]) => {
      const groups = Map.groupBy(ofDay, ({ model, tier, key }) => JSON.stringify([model, tier, key]))
      const results = [...groups.values()].map((group) => ({
        input_tokens: group.reduce((sum, one) => sum + one.input + one.cached, 0),
        input_cached_tokens: group.reduce((sum, one) => sum + one.cached, 0),
        output_tokens: group.reduce((sum, one) => sum + one.output, 0),
        num_model_requests: group.length,
        model: names[group[0]?.model ?? ''],
        api_key_id: group[0]?.key,
        batch: group[0]?.tier === 'batch',
        service_tier: group[0]?.tier === 'batch' ? null : group[0]?.tier,
      }))
      return openaiUsage(dayOf(day), results)
    })
    const costs = days.map(([day, ofDay]) => {
      const items = [...Map.groupBy(ofDay, ({ model }) => model)].flatMap(([model, group]) =>
        (['input', 'cached input', 'output'] as const).map((kind, at) => {
          const parts = group.map((one) => ({
            one,
            units: kind === 'input' ? one.input : kind === 'output' ? one.output : one.cached,
          }))
          const cost = parts.reduce(
            (sum, { one, units }) =>
              sum.plus(
                decimal(prices[model]?.[at] ?? '')
                  .times(decimal(String(units)))
                  .times(decimal(one.tier === 'default' ? '1' : '0.5')),
              ),
            decimal('0'),
          )
          return [
            `${names[model]}, ${kind}`,
            decimalText(cost),
            parts.reduce((sum, { units }) => sum + units, 0),
          ] as const
        }),
      )
      return openaiCosts(dayOf(day), items)
    })
    return [`[${usage.join(',')}]`, `[${costs.join(',')}]`]
  }
  const range = `vendor=openai&start=${dayOf(0)}&end=${dayOf(DAYS)}`
  const compared = async (all: readonly VendorCall[]) => {
    for (const file of filesOf(all)) await sent(file)
    return reportOf(range)
  }

  beforeAll(async () => {
    const events = calls.map((one, index) =>
      event(`month-${index}`, new Date(Date.UTC(2026, 8, 1 + one.day) + one.second * 1000).toISOString(), {
        model: one.model,
        response_model: names[one.model],
        service_tier: one.tier,
        input_tokens: one.input + one.cached,
        cache_read_tokens: one.cached,
        output_tokens: one.output,
      }),
    )
    submissionOf(await sendUsage(service, events))
  })

  it('has no difference from files of the same calls', async () => {
    const found = await compared(calls)
    expect(found.rows.length).toBeGreaterThan(100)
    expect(found.rows.filter(({ causes, matches }) => causes.length > 0 || !matches)).toEqual([])
    expect(found.totals).toMatchObject({ difference_quantity: '0', difference_cost: '0' })
    expect(found.coverage).toMatchObject({ tokens_percent: '100', cost_percent: '100' })
  })

  it('shows a key that nobody metered, and nothing else', async () => {
    const others = calls.slice(0, 200).map((one) => ({ ...one, key: 'key_of_nobody' }))
    const found = await compared([...calls, ...others])
    const tokens = others.reduce((sum, one) => sum + one.input + one.cached + one.output, 0)
    expect(found.totals.causes.filter(({ quantity }) => quantity !== '0')).toEqual([
      expect.objectContaining({
        cause: 'unmetered_key',
        quantity: String(tokens),
        details: [expect.stringContaining('key_of_nobody')],
      }),
    ])
  })

  it('shows days that begin elsewhere, and nothing else', async () => {
    const ahead = calls
      .map((one) => ({ ...one, day: one.day + (one.second >= 16 * 3600 ? 1 : 0) }))
      .filter((one) => one.day > 0 && one.day < DAYS)
    for (const file of filesOf(ahead)) await sent(file)
    // The first day has what the day before would have had.
    const found = await reportOf(`vendor=openai&start=${dayOf(1)}&end=${dayOf(DAYS)}`)
    expect(found.totals.causes).toEqual([
      expect.objectContaining({
        cause: 'time_zone',
        details: ["The vendor's days begin 8 hours before midnight UTC"],
      }),
    ])
    expect(found.coverage).toMatchObject({ tokens_percent: '100', cost_percent: '100' })
  })
})

describe('Anthropic', () => {
  it('is compared by its disjoint counts, costs in cents', async () => {
    const day = '2026-11-06'
    submissionOf(
      await sendUsage(service, [
        event('a1', `${day}T10:00:00Z`, {
          provider: 'anthropic',
          model: 'claude-sonnet-4-5-20250929',
          input_tokens: 3000,
          cache_read_tokens: 1000,
          cache_write_tokens: 500,
          output_tokens: 400,
          meters: { cache_write_1h_tokens: 200 },
        }),
      ]),
    )
    const page = (results: readonly object[]) =>
      JSON.stringify({
        data: [{ starting_at: `${day}T00:00:00Z`, ending_at: '2026-11-07T00:00:00Z', results }],
        has_more: false,
        next_page: null,
      })
    const imported = await sent(
      page([
        {
          uncached_input_tokens: 1500,
          cache_creation: { ephemeral_1h_input_tokens: 200, ephemeral_5m_input_tokens: 300 },
          cache_read_input_tokens: 1000,
          output_tokens: 400,
          server_tool_use: { web_search_requests: 0 },
          api_key_id: 'apikey_1',
          workspace_id: null,
          model: 'claude-sonnet-4-5-20250929',
          service_tier: 'standard',
          context_window: '0-200k',
        },
      ]),
    )
    expect(imported.source).toBe('anthropic_usage')
    const cost = (tokenType: string, amount: string) => ({
      currency: 'USD',
      amount,
      workspace_id: null,
      description: `Claude Sonnet 4.5 Usage - ${tokenType}`,
      cost_type: 'tokens',
      context_window: '0-200k',
      model: 'claude-sonnet-4-5-20250929',
      service_tier: 'standard',
      token_type: tokenType,
    })
    // 3, 0.3, 3.75, 6 and 15 US dollars a million.
    await sent(
      page([
        cost('uncached_input_tokens', '0.45'),
        cost('cache_read_input_tokens', '0.03'),
        cost('cache_creation.ephemeral_5m_input_tokens', '0.1125'),
        cost('cache_creation.ephemeral_1h_input_tokens', '0.12'),
        cost('output_tokens', '0.6'),
      ]),
    )
    const found = await reportOf(`vendor=anthropic&start=${day}&end=2026-11-07`)
    expect(found.totals).toMatchObject({
      vendor_quantity: '3400',
      ledger_quantity: '3400',
      vendor_cost: '0.013125',
      ledger_cost: '0.013125',
      causes: [],
    })
  })
})

describe('bills of clouds', () => {
  it('reads an AWS report with either spelling of its columns, and leaves out other services', async () => {
    const day = '2026-11-08'
    submissionOf(
      await sendUsage(service, [
        event('b1', `${day}T10:30:00Z`, {
          provider: 'aws.bedrock',
          model: 'us.anthropic.claude-sonnet-4-5-20250929-v1:0',
          input_tokens: 29_481,
          output_tokens: 1000,
          region: 'us-east-1',
        }),
      ]),
    )
    const lines = [
      [
        '2026-11-08T10:00:00Z',
        'Usage',
        'AmazonBedrock',
        'USE1-Claude4.5Sonnet-input-tokens',
        '29.481',
        '0.0972873',
      ],
      ['2026-11-08T10:00:00Z', 'Usage', 'AmazonBedrock', 'USE1-Claude4.5Sonnet-output-tokens', '1', '0.0165'],
      ['2026-11-08T10:00:00Z', 'Usage', 'AmazonEC2', 'BoxUsage:m7g.large', '1', '0.0816'],
      ['2026-11-08T00:00:00Z', 'Tax', 'AmazonBedrock', '', '1', '0.02'],
    ]
    const file = (header: string) => `${header}\n${lines.map((line) => line.join(',')).join('\n')}\n`
    const legacy = await sent(
      file(
        'lineItem/UsageStartDate,lineItem/LineItemType,lineItem/ProductCode,lineItem/UsageType,lineItem/UsageAmount,lineItem/UnblendedCost',
      ),
      '',
      'text/csv',
    )
    expect(legacy).toMatchObject({ source: 'aws_cur', lines: 4, ignored_lines: 1, days: [day] })
    await sent(
      gzipSync(
        file(
          'line_item_usage_start_date,line_item_line_item_type,line_item_product_code,line_item_usage_type,line_item_usage_amount,line_item_unblended_cost',
        ),
      ),
      '?source=aws_cur',
      'application/gzip',
    )
    const found = await reportOf(`vendor=aws&start=${day}&end=2026-11-09`)
    expect(found.totals).toMatchObject({
      vendor_quantity: '30481',
      ledger_quantity: '30481',
      vendor_cost: '0.1337873',
    })
    expect(found.totals.causes).toContainEqual({
      cause: 'tax',
      quantity: '0',
      cost: '0.02',
      details: [expect.any(String)],
    })
  })

  it('reads an Azure export, and names the line that it cannot read', async () => {
    const header =
      'SubscriptionId,Date,MeterCategory,MeterName,UnitOfMeasure,Quantity,CostInBillingCurrency,BillingCurrencyCode,ChargeType'
    const line = (quantity: string, currency = 'USD') =>
      `sub-1,11/09/2026,Azure OpenAI,gpt-4o-mini-0718-Inp-glbl Tokens,1K,${quantity},0.15,${currency},Usage`
    submissionOf(
      await sendUsage(
        service,
        event('z1', '2026-11-09T10:00:00Z', {
          provider: 'azure.ai.openai',
          model: 'gpt-4o-mini-2024-07-18',
          input_tokens: 1_000_000,
        }),
      ),
    )
    expect(await sent(`\uFEFF${header}\n${line('1000')}\n`, '', 'text/csv')).toMatchObject({
      source: 'azure_costs',
      lines: 1,
    })
    const found = await reportOf('vendor=azure&start=2026-11-09&end=2026-11-10')
    expect(found.totals).toMatchObject({ vendor_quantity: '1000000', ledger_quantity: '1000000' })

    const broken = problemOf(await send(`${header}\n${line('1')}\n${line('many')}\n`, '', 'text/csv'), 400)
    expect(broken.errors).toEqual([{ path: 'line 3, quantity', message: '"many" is no number' }])
    const euros = problemOf(await send(`${header}\n${line('1', 'EUR')}\n`, '', 'text/csv'), 400)
    expect(pathsOf(euros)).toEqual(['line 2, billing_currency'])
  })

  it('reads a Google export line by line, with credits', async () => {
    const row = (sku: string, amount: number, cost: string, credits = '[]') =>
      `{"service":{"description":"Vertex AI"},"sku":{"description":"${sku}"},"usage_start_time":"2026-11-10 09:00:00 UTC","project":{"id":"p1"},"cost":${cost},"currency":"USD","cost_type":"regular","usage":{"amount":${amount},"unit":"count"},"credits":${credits}}`
    submissionOf(
      await sendUsage(
        service,
        event('g1', '2026-11-10T09:30:00Z', {
          provider: 'gcp.vertex_ai',
          model: 'gemini-2.5-flash',
          input_tokens: 1_000_000,
          output_tokens: 100_000,
          reasoning_tokens: 60_000,
        }),
      ),
    )
    const rows = [
      row(
        'Gemini 2.5 Flash GA Text Input - Predictions',
        1_000_000,
        '0.3',
        '[{"name":"Free trial","amount":-0.3,"type":"PROMOTION"}]',
      ),
      row('Gemini 2.5 Flash GA Thinking Text Output - Predictions', 60_000, '0.15'),
      row('Gemini 2.5 Flash GA Text Output - Predictions', 40_000, '0.1'),
      row('Custom training CPU', 3, '1.5'),
    ]
    expect(await sent(`${rows.join('\n')}\n`, '', 'application/x-ndjson')).toMatchObject({
      source: 'google_billing',
      lines: 4,
      ignored_lines: 1,
    })
    const found = await reportOf('vendor=google&start=2026-11-10&end=2026-11-11')
    expect(found.totals).toMatchObject({
      vendor_quantity: '1100000',
      ledger_quantity: '1100000',
      vendor_cost: '0.25',
      ledger_cost: '0.55',
      causes: [{ cause: 'credit', quantity: '0', cost: '-0.3', details: ['Free trial'] }],
    })
  })
})

describe('a file of another format', () => {
  const broken: readonly (readonly [string, string | Uint8Array, string, string])[] = [
    ['nothing', '', '', 'file'],
    ['an archive', 'PK\u0003\u0004rest', '', 'file'],
    ['no JSON', '{"data": [', '', 'file'],
    [
      'a broken gzip',
      Buffer.concat([gzipSync('a,b\n1,2\n').subarray(0, 12), Buffer.alloc(70, 1)]),
      '',
      'file',
    ],
    ['columns of nobody', 'a,b\n1,2\n', '', 'aws_cur'],
    ['CSV that should be a report', 'a,b\n1,2\n', '?source=openai_usage', 'file'],
    ['lines of other lengths', 'a,b\n1,2,3\n', '', 'line 2'],
    [
      'usage without models',
      openaiUsage('2026-11-03', [{ input_tokens: 1, output_tokens: 1, model: null }]),
      '',
      'data.0.results.0.model',
    ],
    [
      'parts that are more than the whole',
      openaiUsage('2026-11-03', [{ input_tokens: 1, input_cached_tokens: 5, output_tokens: 1, model: 'm' }]),
      '',
      'data.0.results.0',
    ],
    [
      'costs that are not by line item',
      '{"data":[{"start_time":1793664000,"results":[{"object":"organization.costs.result","amount":{"value":1,"currency":"usd"},"line_item":null}]}]}',
      '',
      'data.0.results.0.line_item',
    ],
  ]
  it.each(broken)('is refused by name: %s', async (_name, body, query, path) => {
    const problem = problemOf(await send(body, query, 'application/octet-stream'), 400)
    expect(pathsOf(problem)[0]).toBe(path)
    const { rows } = await database.pool.query('select from vendor_import')
    expect(rows).toEqual([])
  })

  it('an unknown source or range is refused by name', async () => {
    expect(pathsOf(problemOf(await send('a', '?source=nobody'), 400))).toEqual(['source'])
    for (const [query, path] of [
      ['vendor=nobody', 'vendor'],
      ['start=2026-13-01', 'start'],
      ['start=2026-11-02&end=2026-11-01', 'end'],
      ['start=2020-01-01&end=2026-11-01', 'start'],
      ['group_by=customer', 'group_by'],
      ['tolerance=2', 'tolerance'],
    ] as const) {
      expect(pathsOf(problemOf(await call(service, `/api/v1/reconciliation?${query}`), 400))).toEqual([path])
    }
    const reader = await createKey(service, ['read'])
    problemOf(
      await call(service, '/api/v1/reconciliation/imports', { method: 'POST', body: 'a', key: reader.key }),
      403,
    )
  })
})

describe('a vendor that is connected', () => {
  let vendor: Server
  let url = ''
  let asked: string[] = []
  let failures = 0
  beforeAll(async () => {
    vendor = createServer((request, response) => {
      const target = new URL(request.url ?? '', 'http://vendor')
      asked.push(target.pathname)
      if (request.headers.authorization !== 'Bearer sk-admin-right') {
        response.writeHead(401).end('{"error":{}}')
        return
      }
      if (failures > 0) {
        failures -= 1
        response.writeHead(429, { 'retry-after': '0' }).end('{"error":{}}')
        return
      }
      const isCompletions = target.pathname.endsWith('/completions')
      const groups = target.searchParams.getAll('group_by[]')
      if (!target.pathname.endsWith('/costs') && !groups.includes('model')) {
        response.writeHead(400).end('{}')
        return
      }
      // Two pages, each of a day.
      const page = target.searchParams.get('page')
      const results = isCompletions
        ? [{ input_tokens: page === null ? 5 : 7, output_tokens: 1, model: 'gpt-4o-mini' }]
        : []
      const body = z
        .record(z.string(), z.unknown())
        .parse(JSON.parse(openaiUsage(page === null ? '2026-11-18' : '2026-11-19', results)))
      response.end(
        JSON.stringify({
          ...body,
          has_more: isCompletions && page === null,
          next_page: isCompletions && page === null ? 'page_2' : null,
        }),
      )
    })
    await new Promise<void>((resolve) => vendor.listen(0, '127.0.0.1', resolve))
    const address = vendor.address()
    url = typeof address === 'object' && address !== null ? `http://127.0.0.1:${address.port}` : ''
  })
  afterAll(async () => {
    vendor.closeAllConnections()
    await new Promise<void>((resolve) => vendor.close(() => resolve()))
  })

  const path = '/api/v1/reconciliation/vendors/openai'
  const connectionSchema = z.object({
    admin_key: z.string().nullable(),
    last_fetched_at: z.string().nullable(),
    last_error: z.string().nullable(),
  })
  const put = (body: object) => call(service, path, { method: 'PUT', body })
  const connection = async () => connectionSchema.parse((await call(service, path)).json)

  it('is asked page by page, also after refusals, and its key is never shown', async () => {
    asked = []
    failures = 2
    const answer = await put({ admin_key: 'sk-admin-right', base_url: url })
    expect(answer.json).toMatchObject({ admin_key: '…ight', base_url: url, enabled: true })
    await waitFor(async () => (await connection()).last_fetched_at !== null, 'the vendor was asked')
    expect(asked.filter((one) => one.endsWith('/completions'))).toHaveLength(4)
    const found = await reportOf('vendor=openai&start=2026-11-13&end=2026-11-20')
    expect(found.totals.vendor_quantity).toBe('14')
    expect(found.days).toHaveLength(7)
    const stored = await database.pool.query<{ sealed_key: Buffer }>(
      'select sealed_key from vendor_connection',
    )
    expect(stored.rows[0]?.sealed_key.toString('latin1')).not.toContain('sk-admin')
    // The metric follows.
    const metric = async () => (await call(service, '/metrics', { key: null })).text
    await waitFor(
      async () => (await metric()).includes('tokentally_reconciliation_coverage_ratio{vendor="openai"} 0'),
      'the coverage is among the metrics',
    )
  })

  it('leaves the metrics when its figures are taken out', async () => {
    const { id } = await sent(
      openaiUsage('2026-11-18', [{ input_tokens: 5, output_tokens: 1, model: 'gpt-4o-mini' }]),
    )
    const ratio = async () =>
      (await call(service, '/metrics', { key: null })).text.includes('coverage_ratio{vendor="openai"}')
    await waitFor(ratio, 'the coverage is among the metrics')
    await call(service, `/api/v1/reconciliation/imports/${id}`, { method: 'DELETE' })
    await waitFor(async () => !(await ratio()), 'the coverage is gone')
  })

  it('says why it could not be asked', async () => {
    await put({ admin_key: 'sk-admin-wrong', base_url: url })
    await waitFor(async () => (await connection()).last_error !== null, 'the refusal is noted')
    expect((await connection()).last_error).toContain('answered 401')
  })

  it('sends a key to no other address, and is forgotten with it', async () => {
    expect(pathsOf(problemOf(await put({ base_url: `${url}/elsewhere` }), 400))).toEqual(['admin_key'])
    expect(pathsOf(problemOf(await put({ admin_key: 'k', base_url: 'http://10.0.0.1/' }), 400))).toEqual([
      'base_url',
    ])
    const azure = await call(service, '/api/v1/reconciliation/vendors/azure', {
      method: 'PUT',
      body: { admin_key: 'k' },
    })
    expect(pathsOf(problemOf(azure, 400))).toEqual(['admin_key'])
    expect((await call(service, path, { method: 'DELETE' })).status).toBe(204)
    problemOf(await call(service, path), 404)
  })
})

import { afterAll, beforeAll, expect, it } from 'vitest'
import { z } from 'zod'
import {
  createTestDatabase,
  startService,
  type TestDatabase,
  type TestService,
  waitFor,
} from '../harness/index.ts'

/** Promise 4: a price change changes no past event, and nothing in the ledger can be changed or removed. */

let database: TestDatabase
let service: TestService
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url })
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})

async function call(method: string, path: string, body?: object): Promise<unknown> {
  const response = await fetch(service.url + path, {
    method,
    headers: { authorization: `Bearer ${service.ownerKey}`, 'content-type': 'application/json' },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })
  expect(response.ok).toBe(true)
  return response.json()
}
const send = (event: object) => call('POST', '/api/v1/usage', event)
const eventSchema = z.object({
  rating: z.object({
    status: z.string(),
    total_cost: z.string().nullable(),
    price_version_id: z.string().nullable(),
    lines: z.array(z.object({ meter: z.string(), quantity: z.string(), unit_price: z.string().nullable() })),
  }),
})
const ratingOf = async (id: string) => eventSchema.parse(await call('GET', `/api/v1/usage/${id}`)).rating
const totalCost = async (model: string) => {
  const report = await call('GET', `/api/v1/costs/aggregate?model=${model}`)
  return z
    .object({ totals: z.object({ total_cost: z.string(), unpriced_requests: z.number() }) })
    .parse(report).totals
}

it('rates each event by the price of its own time, to the last digit', async () => {
  // Worked out by hand from the vendors' price lists.
  const table = [
    // 1,200 input of which 1,024 cached, 300 output: 176 × 0.15 + 1,024 × 0.075 + 300 × 0.60 per million.
    [
      'gpt-4o-mini',
      'openai',
      '2026-11-01T12:00:00Z',
      { input_tokens: 1200, cache_read_tokens: 1024, output_tokens: 300 },
      '0.0002832',
    ],
    // o3 cost 10 and 40 dollars per million until 9 June 2025, 2 and 8 since.
    ['o3', 'openai', '2025-06-09T23:59:59Z', { input_tokens: 1000, output_tokens: 1000 }, '0.05'],
    ['o3', 'openai', '2025-06-10T00:00:00Z', { input_tokens: 1000, output_tokens: 1000 }, '0.01'],
    // 10 × 3 + 100 × 0.30 + 40 × 3.75 + 60 × 6 + 5 × 15 per million: cache writes of five minutes and one hour.
    [
      'claude-sonnet-4-5',
      'anthropic',
      '2026-11-01T12:00:00Z',
      {
        input_tokens: 210,
        cache_read_tokens: 100,
        cache_write_tokens: 100,
        output_tokens: 5,
        meters: { cache_write_1h_tokens: 60 },
      },
      '0.000645',
    ],
  ] as const
  for (const [index, [model, provider, ts, usage, cost]] of table.entries()) {
    await send({ event_id: `exact-${index}`, ts, provider, model, ...usage })
    expect([model, ts, (await ratingOf(`exact-${index}`)).total_cost]).toEqual([model, ts, cost])
  }
})

it('keeps past events as they were rated when a price changes, and rates the very next one anew', async () => {
  const event = { provider: 'openai', model: 'gpt-4o-mini', input_tokens: 1_000_000 }
  await send({ event_id: 'before', ...event })
  const before = await ratingOf('before')
  await call('POST', '/api/v1/prices', {
    provider: 'openai',
    model: 'gpt-4o-mini',
    rates: { input_tokens: { price: '0.30', per: 1_000_000 } },
  })
  await send({ event_id: 'after', ...event })
  expect((await ratingOf('after')).total_cost).toBe('0.3')
  expect(before.total_cost).toBe('0.15')
  expect(await ratingOf('before')).toEqual(before)
})

it('shows unpriced usage as a state, and rates it when a price arrives', async () => {
  await send({
    event_id: 'mystery',
    provider: 'acme-llm',
    model: 'mystery-1',
    input_tokens: 2_000_000,
    output_tokens: 5,
  })
  expect(await ratingOf('mystery')).toMatchObject({ status: 'unpriced', total_cost: null })
  expect(await totalCost('mystery-1')).toEqual({ total_cost: '0', unpriced_requests: 1 })
  await call('POST', '/api/v1/prices', {
    provider: 'acme-llm',
    model: 'mystery-1',
    rates: { input_tokens: { price: '1.5', per: 1_000_000 }, output_tokens: { price: '3', per: 1_000_000 } },
  })
  await waitFor(async () => (await ratingOf('mystery')).status === 'rated', 'the late rating')
  expect((await ratingOf('mystery')).total_cost).toBe('3.000015')
  expect(await totalCost('mystery-1')).toEqual({ total_cost: '3.000015', unpriced_requests: 0 })
  const ledger = await database.pool.query(
    "select metric_type, units::text, unit_cost_usd::text from usage_ledger where event_id = 'mystery' order by 1",
  )
  expect(ledger.rows).toEqual([
    { metric_type: 'input_tokens', units: '2000000', unit_cost_usd: '0.0000015' },
    { metric_type: 'output_tokens', units: '5', unit_cost_usd: '0.000003' },
  ])
})

it.each([
  'update usage_event set sell_cost_usd = 0',
  'delete from usage_event',
  'truncate usage_event',
  'update late_rating set sell_cost_usd = 0',
  'delete from event_key',
  'truncate event_key',
  'delete from price_version',
])('is guarded by the database: %s', async (statement) => {
  await expect(database.pool.query(statement)).rejects.toThrow(/append-only/)
})

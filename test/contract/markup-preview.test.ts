import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import {
  createTestDatabase,
  startService,
  type TestDatabase,
  type TestService,
  waitFor,
} from '../harness/index.ts'
import { call, createKey, pathsOf, problemOf, sendUsage, submissionOf } from './api-client.ts'

/** What a preview of markup rules says, held against what the same events cost when the rules are there. */

const PREVIEW = '/api/v1/markup-rules/preview'
let clockMs = Date.UTC(2026, 9, 20, 12)

let database: TestDatabase
let service: TestService
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url, now: () => new Date(clockMs) })
  await send('october')
  await call(service, '/api/v1/prices', {
    body: { provider: 'acme-ai', model: 'acme-1', rates: { input_tokens: { price: '2', per: 1_000_000 } } },
  })
  await waitFor(async () => {
    const { rows } = await database.pool.query<{ count: string }>('select count(*) as count from late_rating')
    return rows[0]?.count === '2'
  }, 'the late ratings')
  clockMs = Date.UTC(2026, 10, 2, 12)
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})

/** Calls of every kind, spread over two days. */
function events(prefix: string): object[] {
  const customers = ['acme', 'umbrella', undefined]
  const models = [
    { provider: 'openai', model: 'gpt-4o-mini', response_model: 'gpt-4o-mini-2024-07-18' },
    { provider: 'openai', model: 'gpt-4o' },
    { provider: 'anthropic', model: 'claude-haiku-4-5' },
  ]
  const usages = [
    { input_tokens: 1234, cache_read_tokens: 1024, output_tokens: 77, reasoning_tokens: 11 },
    { input_tokens: 1, output_tokens: 0 },
    { input_tokens: 5000, output_tokens: 9, meters: { web_search_requests: 2 } },
    { input_tokens: 70, meters: { requests: 3 } },
    { input_tokens: 80, meters: { requests: 0 } },
    { input_tokens: 900, status: 'error' },
    { input_tokens: 300, output_tokens: 3, tags: { plan: 'pro', other: 'x' } },
    { input_tokens: 300, output_tokens: 3, tags: { plan: 'free' }, feature: 'chat' },
  ]
  const all = models.flatMap((model) =>
    customers.flatMap((customer) =>
      usages.map((usage) => ({
        ...model,
        ...usage,
        ...(customer !== undefined && { customer_id: customer }),
      })),
    ),
  )
  const unpriced = [
    { provider: 'acme-ai', model: 'acme-1', input_tokens: 400, customer_id: 'acme' },
    { provider: 'acme-ai', model: 'acme-1', input_tokens: 500, feature: 'chat' },
    { provider: 'acme-ai', model: 'acme-2', input_tokens: 500, feature: 'chat' },
  ]
  return [...all, ...unpriced].map((event, index) => ({
    ...event,
    event_id: `${prefix}-${index}`,
    ts: new Date(clockMs - (index % 2) * 24 * 3_600_000).toISOString(),
  }))
}

async function send(prefix: string) {
  const sent = events(prefix)
  expect(submissionOf(await sendUsage(service, sent)).accepted).toBe(sent.length)
}

const sums = {
  events: z.number(),
  list_cost: z.string(),
  sell_cost_before: z.string(),
  sell_cost_after: z.string(),
  difference: z.string(),
  margin_before: z.string(),
  margin_after: z.string(),
}
const resultSchema = z.object({
  period: z.object({ start: z.string(), end: z.string() }),
  currency: z.literal('USD'),
  groups: z.array(z.looseObject(sums)),
  totals: z.object(sums),
  rules: z.array(z.object({ id: z.string(), ...sums })),
})
const progressSchema = z.object({ progress: z.number(), events: z.number() })

async function preview(body: object) {
  const answer = await call(service, PREVIEW, { body })
  expect([answer.status, answer.text]).toEqual([200, expect.any(String)])
  expect(answer.headers.get('content-type')).toBe('application/x-ndjson')
  const lines = answer.text
    .trimEnd()
    .split('\n')
    .map((line): unknown => JSON.parse(line))
  const progress = lines.slice(0, -1).map((line) => progressSchema.parse(line))
  expect(progress.at(-1)?.progress).toBe(1)
  return { progress, ...z.object({ result: resultSchema }).parse(lines.at(-1)).result }
}

const RULE_SETS: readonly (readonly [name: string, rules: readonly object[]])[] = [
  ['none', []],
  [
    'a markup and a discount',
    [
      { id: 'a', markup: 0.2 },
      { id: 'b', customer: 'acme', discount: '0.333' },
    ],
  ],
  ['a minimum', [{ id: 'a', markup: 1, minimum: '0.0003' }]],
  [
    'prices by meter, of a request too',
    [
      {
        id: 'a',
        model: 'gpt-4o*',
        minimum: '0.00001',
        prices: { input_tokens: { price: '3.3', per: 1_000_000 }, requests: { price: '0.5', per: 1000 } },
      },
    ],
  ],
  ['prices by meter', [{ id: 'a', prices: { output_tokens: { price: '7', per: 1000 } } }]],
  [
    'prices by meter, and of a request for events that do not say how many they are',
    [
      {
        id: 'a',
        prices: { output_tokens: { price: '7', per: 1000 }, requests: { price: '0.5', per: 1000 } },
      },
    ],
  ],
  ['a price for each request', [{ id: 'a', price_per_request: '0.01' }]],
  ['a price for each request below its minimum', [{ id: 'a', price_per_request: '0.01', minimum: '0.03' }]],
  [
    'more minima than there are columns of sums for',
    ['acme', 'umbrella', undefined].flatMap((customer, c) =>
      ['gpt-4o-mini', 'gpt-4o', 'claude-haiku-4-5', undefined].map((model, m) => ({
        id: `least-${c}-${m}`,
        ...(customer !== undefined && { customer }),
        ...(model !== undefined && { model }),
        markup: 0.1,
        minimum: `0.00${c}${m}7`,
      })),
    ),
  ],
  [
    'all of it',
    [
      { id: 'a', markup: 0.2 },
      { id: 'b', tags: { plan: 'pro' }, minimum: '0.5' },
      { id: 'c', customer: 'acme', model: 'gpt-4o-mini-*', discount: 0.5 },
      { id: 'd', customer: 'acme', provider: 'anthropic', price_per_request: 0.001 },
      { id: 'e', feature: 'chat', prices: { input_tokens: { price: '1', per: 1000 } }, minimum: 0.02 },
      { id: 'f', customer: 'nobody', markup: 1 },
    ],
  ],
]

describe('a preview', () => {
  it.each(RULE_SETS)('says to the last digit what is charged then: %s', async (name, rules) => {
    const { totals, groups, rules: byRule, period } = await preview({ rules })
    expect(period).toEqual({ start: '2026-10-01T00:00:00.000Z', end: '2026-11-01T00:00:00.000Z' })

    const applied = await call(service, '/api/v1/markup-rules/apply', { body: { rules, prune: true } })
    expect([applied.status, applied.text]).toEqual([200, expect.any(String)])
    // Two days later, so that also the events of the day before meet the rules.
    clockMs += 2 * 24 * 3_600_000
    await send(name)
    const { rows } = await database.pool.query<{ customer: string | null; list: string; sell: string }>(
      `select customer_id as customer, trim_scale(sum(list_cost_usd))::text as list,
         trim_scale(sum(sell_cost_usd))::text as sell
       from usage_event where event_id like $1 || '-%' group by customer_id`,
      [name],
    )
    expect(
      groups.map(({ customer, list_cost, sell_cost_after }) => [customer, list_cost, sell_cost_after]).sort(),
    ).toEqual(rows.map(({ customer, list, sell }) => [customer, list, sell]).sort())
    expect(totals).toMatchObject({ events: events('').length, sell_cost_before: totals.list_cost })
    expect(byRule.map(({ id }) => id)).toEqual(rules.map((rule) => ('id' in rule ? rule.id : '')))
  })

  it('changes nothing', async () => {
    const state = async () => {
      const { rows } = await database.pool.query(
        `select (select count(*) from markup_rule) as rules, (select revision from price_book) as revision,
           (select count(*) from usage_event) as events, (select sum(sell_cost_usd) from usage_event) as sold`,
      )
      return rows
    }
    const before = await state()
    await preview({ rules: [{ id: 'x', markup: 3, effective_date: '2020-01-01' }] })
    expect(await state()).toEqual(before)
  })

  it('takes the rule language, a range and other groups, and tells how far it is', async () => {
    const text = 'rule "base" { markup = 1 }\nrule "chat" { feature = "chat" discount = 1 }'
    const result = await preview({
      text,
      start: '2026-10-19',
      end: '2026-10-21',
      group_by: ['feature', 'status'],
    })
    expect(result.progress.map(({ progress }) => progress)).toEqual([0.25, 0.5, 0.75, 1])
    expect(result.groups.map(({ feature, status }) => [feature, status])).toEqual(
      [
        [null, 'ok'],
        ['chat', 'ok'],
        [null, 'error'],
      ].sort((a, b) => (a[1] === b[1] ? 0 : a[1] === 'ok' ? -1 : 1)),
    )
    expect(result.rules.find(({ id }) => id === 'chat')).toMatchObject({ sell_cost_after: '0' })
  })

  it('without rules takes the present ones', async () => {
    await call(service, '/api/v1/markup-rules/apply', {
      body: { rules: [{ id: 'now', discount: 1 }], prune: true },
    })
    expect(await preview({})).toMatchObject({ totals: { sell_cost_after: '0' }, rules: [{ id: 'now' }] })
  })

  it('counts what a correction took back negatively', async () => {
    const rules = [{ id: 'a', price_per_request: 1 }]
    const before = await preview({ rules, group_by: [] })
    await database.pool.query(`
      create table taken as select * from usage_event where event_id = 'october-0';
      update taken set event_id = 'taken-back', entry_kind = 'reversal', corrects_event_id = 'october-0';
      insert into usage_event select * from taken`)
    const after = await preview({ rules, group_by: [] })
    expect(after.totals.events).toBe(before.totals.events - 1)
    expect(Number(before.totals.sell_cost_after) - Number(after.totals.sell_cost_after)).toBe(1)
  })
})

describe('refuses', () => {
  it.each<[string, object, number, readonly string[]]>([
    ['a wrong rule', { rules: [{ id: 'a', markup: -1 }] }, 400, ['rules.0.markup']],
    [
      'a rule twice',
      {
        rules: [
          { id: 'a', markup: 1 },
          { id: 'a', minimum: 1 },
        ],
      },
      400,
      ['rules.0.id'],
    ],
    [
      'rules that tie',
      {
        rules: [
          { id: 'a', markup: 1 },
          { id: 'b', minimum: 1 },
        ],
      },
      409,
      ['rules.0.id'],
    ],
    ['wrong text', { text: 'rule "a" { markup = 20% }' }, 400, ['text']],
    ['rules and text', { rules: [], text: '' }, 400, ['text']],
    ['an unknown group', { group_by: ['customer', 'planet'] }, 400, ['group_by.1']],
    ['an end before the start', { start: '2026-10-02', end: '2026-10-01' }, 400, ['end']],
    ['an unknown field', { ruels: [] }, 400, ['ruels']],
  ])('%s', async (_, body, status, paths) => {
    expect(pathsOf(problemOf(await call(service, PREVIEW, { body }), status))).toEqual(paths)
  })

  it('a key without the scope', async () => {
    const { key } = await createKey(service, ['ingest'])
    problemOf(await call(service, PREVIEW, { body: {}, key }), 403)
  })
})

import { type Decimal, decimal, decimalText, ZERO } from '@tokentally/core'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { adviseOrganization, defineAdviceJob } from '../../apps/server/src/advice/index.ts'
import { createRatingBookCache } from '../../apps/server/src/pricing/index.ts'
import type { JobHandler } from '../../apps/server/src/queue/jobs.ts'
import {
  createTestDatabase,
  startService,
  type TestDatabase,
  type TestService,
  waitFor,
} from '../harness/index.ts'
import { call, createKey, pathsOf, problemOf, sendUsage, submissionOf } from './api-client.ts'

/** Advice on four weeks of real events, as docs/reference/recommendations.md and commitments.md describe it. */

const DAY_MS = 24 * 3_600_000
const NOW = Date.UTC(2026, 10, 20, 3)
const END = Date.UTC(2026, 10, 20)
const DAYS = 28

let database: TestDatabase
let service: TestService
let nowMs = NOW

beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url, now: () => new Date(nowMs) })
  for (let day = 0; day < DAYS; day++) {
    const { accepted } = submissionOf(await sendUsage(service, eventsOf(day)))
    expect(accepted).toBe(eventsOf(day).length)
  }
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})

/** Calls of one day: the same every day but for a few tokens. */
function eventsOf(day: number): object[] {
  const start = END - (DAYS - day) * DAY_MS
  const many = (count: number, name: string, event: (index: number) => object) =>
    Array.from({ length: count }, (_, index) => ({
      event_id: `${name}-${day}-${index}`,
      ts: new Date(start + index * 60_000).toISOString(),
      provider: 'openai',
      model: 'gpt-4o',
      ...event(index),
    }))
  return [
    ...many(40, 'chat', (index) => ({
      feature: '/chat',
      user_id: 'u',
      response_model: 'gpt-4o-2024-08-06',
      input_tokens: 1900 + (index % 7) + (day % 3),
      cache_read_tokens: index % 2 === 0 ? 1024 : 0,
      output_tokens: 400,
    })),
    // Too large for a smaller model, and no route or user is named.
    ...many(40, 'report', (index) => ({
      feature: 'nightly-report',
      input_tokens: 9000 + index,
      output_tokens: 900,
    })),
    ...many(40, 'tagged', () => ({
      team_id: 'data',
      tags: { waiting: 'no' },
      streamed: true,
      input_tokens: 5000,
      output_tokens: 700,
    })),
    ...many(40, 'faq', (index) => ({
      feature: '/faq',
      user_id: 'u',
      provider: 'anthropic',
      model: 'claude-opus-4-5',
      input_tokens: 3000,
      output_tokens: 600,
      // Runs of ten, a minute apart.
      prompt_hash: `hmac-sha256:${String(Math.floor(index / 10)).repeat(64)}`,
    })),
    ...many(20, 'left', () => ({
      feature: '/stream',
      user_id: 'u',
      status: 'aborted',
      input_tokens: 3000,
      output_tokens: 2000,
    })),
    ...many(20, 'retried', (index) => ({
      feature: '/retry',
      user_id: 'u',
      call_id: `call-${day}-${Math.floor(index / 2)}`,
      attempt: index % 2,
      input_tokens: 10_000,
      output_tokens: 2000,
    })),
    ...many(40, 'fast', () => ({
      customer_id: 'acme',
      tags: { waiting: 'no' },
      service_tier: 'priority',
      input_tokens: 5000,
      output_tokens: 700,
    })),
    ...many(60, 'hosted', () => ({
      feature: '/hosted',
      user_id: 'u',
      provider: 'groq',
      model: 'openai/gpt-oss-120b',
      input_tokens: 8000,
      output_tokens: 2500,
    })),
  ]
}

const money = z.string().regex(/^-?\d+(\.\d+)?$/)
const recommendation = z.object({
  id: z.string(),
  kind: z.string(),
  scope: z.object({ dimension: z.string(), value: z.string().nullable() }),
  subject: z.object({ provider: z.string(), model: z.string(), service_tier: z.string().nullable() }),
  alternative: z.object({
    provider: z.string().nullable(),
    model: z.string().nullable(),
    service_tier: z.string().nullable(),
    note: z.string().nullable(),
  }),
  saving_per_month: z.object({ usd: money, low_usd: money, high_usd: money }),
  confidence: z.string(),
  events: z.number(),
  state: z.string(),
})
const list = z.object({
  recommendations: z.array(recommendation),
  computed_at: z.string().nullable(),
  next_cursor: z.string().nullable(),
})
const detail = recommendation.extend({
  computation: z.object({
    current_usd: money,
    alternative_usd: money,
    saved_usd: money,
    history: z.object({ every: z.string(), saved_usd: z.array(money) }),
    price_version_ids: z.array(z.string()),
    assumption: z.string().nullable(),
    query: z.string(),
  }),
  sample_event_ids: z.array(z.string()),
})

async function listed(query = ''): Promise<z.infer<typeof list>> {
  const answer = await call(service, `/api/v1/recommendations?limit=200${query}`)
  expect([answer.status, answer.text]).toEqual([200, expect.any(String)])
  return list.parse(answer.json)
}
async function detailOf(kind: string, scope: string): Promise<z.infer<typeof detail>> {
  const { recommendations } = await listed(`&state=all&kind=${kind}&scope=${encodeURIComponent(scope)}`)
  expect([kind, scope, recommendations.length]).toEqual([kind, scope, 1])
  return detail.parse((await call(service, `/api/v1/recommendations/${recommendations[0]?.id}`)).json)
}
async function refresh(): Promise<number> {
  const answer = await call(service, '/api/v1/recommendations/refresh', { method: 'POST' })
  expect([answer.status, answer.text]).toEqual([200, expect.any(String)])
  return z.object({ recommendations: z.number() }).parse(answer.json).recommendations
}
/** What these events cost in the ledger. */
async function ledgerCost(prefix: string): Promise<string> {
  const { rows } = await database.pool.query<{ cost: string }>(
    'select sum(list_cost_usd)::text as cost from usage_event where event_id like $1',
    [`${prefix}-%`],
  )
  return decimalText(decimal(rows[0]?.cost ?? '0'))
}
const sum = (amounts: readonly string[]): Decimal => amounts.reduce((a, b) => a.plus(decimal(b)), ZERO)
const perDay = (usd: string) => decimalText(decimal(usd).times(decimal(String(DAYS))))

describe('recommendations', () => {
  it('are computed on demand, the largest saving first', async () => {
    expect(await refresh()).toBeGreaterThan(5)
    const { recommendations, computed_at } = await listed()
    expect(computed_at).toBe(new Date(NOW).toISOString())
    const savings = recommendations.map(({ saving_per_month: { usd } }) => Number(usd))
    expect(savings).toEqual(savings.toSorted((a, b) => b - a))
    for (const { saving_per_month: saving } of recommendations) {
      expect(Number(saving.low_usd)).toBeGreaterThan(0)
      expect(Number(saving.usd)).toBeGreaterThanOrEqual(Number(saving.low_usd))
    }
  })

  it('cheaper_model: the very calls at the other model’s prices', async () => {
    const found = await detailOf('cheaper_model', 'feature:/chat')
    expect(found).toMatchObject({
      subject: { provider: 'openai', model: 'gpt-4o' },
      alternative: { model: 'gpt-4o-mini' },
      confidence: 'high',
      events: 40 * DAYS,
      state: 'open',
    })
    // By hand, from the price list: 0.15, 0.075 (cached) and 0.60 dollars a million.
    let alternative = ZERO
    for (let day = 0; day < DAYS; day++) {
      for (let index = 0; index < 40; index++) {
        const input = 1900 + (index % 7) + (day % 3)
        const cached = index % 2 === 0 ? 1024 : 0
        const millionths = `${(input - cached) * 150 + cached * 75 + 400 * 600}e-9`
        alternative = alternative.plus(decimal(millionths))
      }
    }
    const { computation } = found
    expect(computation.current_usd).toBe(await ledgerCost('chat'))
    expect(computation.alternative_usd).toBe(decimalText(alternative))
    expect(computation.history.saved_usd).toHaveLength(DAYS)
    expect(decimalText(sum(computation.history.saved_usd))).toBe(computation.saved_usd)
    expect(computation.price_version_ids).toHaveLength(2)
    expect(found.sample_event_ids[0]).toMatch(/^chat-27-/)
    const events = await call(service, `${computation.query}&limit=1`)
    expect(events.status).toBe(200)
    expect(events.text).toContain('"chat-27-39"')
  })

  it('batch_eligible: calls that nobody waited for; a guess is said to be one', async () => {
    const guessed = await detailOf('batch_eligible', 'feature:nightly-report')
    expect(guessed).toMatchObject({ alternative: { service_tier: 'batch' }, confidence: 'medium' })
    expect(guessed.computation.assumption).toContain('taken for a job')
    expect(guessed.computation.current_usd).toBe(await ledgerCost('report'))
    expect(sum([guessed.computation.alternative_usd]).times(decimal('2'))).toEqual(
      decimal(guessed.computation.current_usd),
    )
    const tagged = await detailOf('batch_eligible', 'team:data')
    expect(tagged).toMatchObject({ confidence: 'high', computation: { assumption: null } })
    // Somebody waited for these.
    expect((await listed('&kind=batch_eligible&scope=feature:/chat')).recommendations).toEqual([])
  })

  it('prompt_caching: repeated prompts at the prices of the cache', async () => {
    const { computation, events } = await detailOf('prompt_caching', 'feature:/faq')
    expect(events).toBe(40 * DAYS)
    // 2,944 of 3,000 tokens are whole steps: 4 written, 36 read, at 5, 6.25 and 0.50 dollars a million.
    expect(computation.current_usd).toBe(perDay('0.5888'))
    expect(computation.alternative_usd).toBe(perDay('0.126592'))
  })

  it('retries_and_errors: calls that were left, and attempts that were not the last', async () => {
    expect((await detailOf('retries_and_errors', 'feature:/stream')).computation.saved_usd).toBe(
      await ledgerCost('left'),
    )
    const retried = await detailOf('retries_and_errors', 'feature:/retry')
    expect(retried.events).toBe(10 * DAYS)
    expect(sum([retried.computation.saved_usd]).times(decimal('2'))).toEqual(
      decimal(await ledgerCost('retried')),
    )
  })

  it('service_tier: a faster tier that nobody waited for', async () => {
    const { subject, alternative, computation } = await detailOf('service_tier', 'customer:acme')
    expect([subject.service_tier, alternative.service_tier]).toEqual(['priority', 'default'])
    expect(computation.current_usd).toBe(await ledgerCost('fast'))
    expect(computation.alternative_usd).toBe(perDay('0.78'))
  })

  it('cheaper_provider: the same model at another host', async () => {
    const { subject, alternative, computation } = await detailOf('cheaper_provider', 'feature:/hosted')
    expect(subject).toMatchObject({ provider: 'groq', model: 'openai/gpt-oss-120b' })
    expect(alternative.provider).not.toMatch(/^(groq|openai)$/)
    expect(alternative.model).toMatch(/gpt-oss-120b/)
    expect(computation.assumption).toContain('same quality')
  })

  it('can be filtered and paged', async () => {
    const all = (await listed()).recommendations
    const large = await listed('&min_saving=30')
    expect(large.recommendations).toEqual(all.filter((one) => Number(one.saving_per_month.usd) >= 30))
    expect(large.recommendations.length).toBeLessThan(all.length)
    expect((await listed('&scope=team')).recommendations.map(({ scope }) => scope)).toEqual([
      { dimension: 'team', value: 'data' },
    ])
    const paged: unknown[] = []
    for (let cursor = ''; ; ) {
      const { json } = await call(service, `/api/v1/recommendations?limit=2${cursor}`)
      const page = list.parse(json)
      paged.push(...page.recommendations)
      if (page.next_cursor === null) break
      cursor = `&cursor=${page.next_cursor}`
    }
    expect(paged).toEqual(all)
    for (const [query, path] of [
      ['kind=magic', 'kind'],
      ['scope=galaxy:1', 'scope'],
      ['min_saving=-1', 'min_saving'],
      ['cursor=x', 'cursor'],
    ]) {
      expect(pathsOf(problemOf(await call(service, `/api/v1/recommendations?${query}`), 400))).toEqual([path])
    }
  })

  it('stay dismissed when they are found again, under the same id, until they are reopened', async () => {
    const { id } = await detailOf('cheaper_model', 'feature:/chat')
    const path = `/api/v1/recommendations/${id}`
    expect((await call(service, `${path}/dismiss`, { body: { reason: 'tried' } })).json).toMatchObject({
      state: 'dismissed',
      dismissed_reason: 'tried',
    })
    await refresh()
    expect((await listed()).recommendations.map((one) => one.id)).not.toContain(id)
    expect((await listed('&state=dismissed')).recommendations.map((one) => one.id)).toEqual([id])
    expect((await call(service, `${path}/reopen`, { method: 'POST' })).json).toMatchObject({ state: 'open' })
    problemOf(await call(service, `/api/v1/recommendations/${crypto.randomUUID()}`), 404)
    problemOf(
      await call(service, `/api/v1/recommendations/${crypto.randomUUID()}/reopen`, { method: 'POST' }),
      404,
    )
    const nul = { reason: 'a\0b' }
    expect(pathsOf(problemOf(await call(service, `${path}/dismiss`, { body: nul }), 400))).toEqual(['reason'])
    const { key } = await createKey(service, ['read'])
    problemOf(await call(service, `${path}/dismiss`, { body: {}, key }), 403)
  })

  it('follow the table of alternatives, and are gone when it no longer has one', async () => {
    const table = '/api/v1/advice/model-alternatives'
    expect((await call(service, table)).json).toMatchObject({ updated_at: null })
    const entry = {
      provider: 'openai',
      model: 'gpt-4o',
      alternatives: [{ model: 'gpt-4.1-nano', note: 'ours' }, { model: 'gpt-4o-mini' }, { model: 'unknown' }],
    }
    const put = (model_alternatives: unknown) =>
      call(service, table, { method: 'PUT', body: { model_alternatives } })
    expect((await put([entry])).status).toBe(200)
    await refresh()
    const found = await detailOf('cheaper_model', 'feature:/chat')
    expect(found.alternative).toMatchObject({ model: 'gpt-4.1-nano', note: 'ours' })
    await put([])
    await refresh()
    expect((await listed('&kind=cheaper_model')).recommendations).toEqual([])
    expect((await call(service, `/api/v1/recommendations/${found.id}`)).json).toMatchObject({ state: 'gone' })
    expect(pathsOf(problemOf(await put([{ ...entry, alternatives: [] }]), 400))).toEqual([
      'model_alternatives.0.alternatives',
    ])
  })

  it('an event that was taken back no longer counts', async () => {
    const before = await detailOf('batch_eligible', 'team:data')
    const body = { reason: 'test', select: { event_ids: ['tagged-3-0'] }, change: { void: true } }
    expect((await call(service, '/api/v1/corrections', { body })).status).toBe(201)
    await refresh()
    expect((await detailOf('batch_eligible', 'team:data')).events).toBe(before.events - 1)
  })
})

describe('commitments', () => {
  const offer = {
    id: 'ptu',
    kind: 'provisioned_throughput',
    provider: 'openai',
    model: 'gpt-4o',
    tokens_per_minute: 20_000,
    output_weight: '4',
    price_per_hour: '0.01',
  }
  const tier = {
    id: 'tier',
    kind: 'committed_spend',
    provider: 'openai',
    monthly_usd: '50',
    discount: '0.1',
    source: 'contract',
    source_date: '2026-11-01',
  }
  const put = (path: string, body: object) => call(service, path, { method: 'PUT', body })

  it('are kept as they are set', async () => {
    expect((await call(service, '/api/v1/commitments/offers')).json).toEqual({ offers: [], updated_at: null })
    const set = await put('/api/v1/commitments/offers', { offers: [offer, tier] })
    expect(set.json).toMatchObject({ offers: [{ ...offer, units_min: 1, usable_share: '1' }, tier] })
    expect((await call(service, '/api/v1/commitments/offers')).json).toEqual(set.json)
    expect(
      pathsOf(problemOf(await put('/api/v1/commitments/offers', { offers: [tier, tier] }), 400)),
    ).toEqual(['offers.1.id'])
    expect(
      pathsOf(
        problemOf(await put('/api/v1/commitments', { commitments: [{ ...tier, discount: '2' }] }), 400),
      ),
    ).toContain('commitments.0.discount')
  })

  it('are advised on from the history, and idle ones become recommendations', async () => {
    const { source: _, source_date: __, ...owned } = tier
    const commitments = [
      { ...offer, id: 'owned', price_per_hour: '10', units: 3, valid_from: '2026-01-01' },
      { ...owned, monthly_usd: '100000', valid_from: '2026-01-01' },
      { ...offer, id: 'over', units: 1, valid_from: '2025-01-01', valid_until: '2026-01-01' },
    ]
    expect((await put('/api/v1/commitments', { commitments })).status).toBe(200)
    await waitFor(async () => {
      const { rows } = await database.pool.query(
        'select from ledger_batch where rolled_up_at is null limit 1',
      )
      return rows.length === 0
    }, 'everything is rolled up')
    const { json } = await call(service, '/api/v1/commitments/advice')
    const advice = z
      .object({
        models: z.array(
          z.looseObject({
            on_demand_usd_per_month: money,
            best: z.object({
              offer_id: z.string().nullable(),
              units: z.number(),
              total_usd_per_month: money,
            }),
            saving_per_month: z.object({ usd: money, low_usd: money, high_usd: money }),
          }),
        ),
        providers: z.array(z.looseObject({ on_demand_usd_per_month: money })),
        owned: z.array(z.looseObject({ id: z.string(), cheapest_units: z.number().nullable() })),
      })
      .parse(json)
    const [model] = advice.models
    expect(model).toMatchObject({ best: { offer_id: 'ptu' }, history: { weeks: 4, stretch_minutes: 15 } })
    expect(model?.best.units).toBeGreaterThan(0)
    const saved = Number(model?.on_demand_usd_per_month) - Number(model?.best.total_usd_per_month)
    expect(saved).toBeGreaterThan(0)
    expect(Number(model?.saving_per_month.usd)).toBeCloseTo(saved, 4)
    expect(advice.providers).toMatchObject([{ provider: 'openai', best: { offer_id: 'tier' } }])
    expect(advice.owned).toMatchObject([
      { id: 'owned', units: 3, cheapest_units: 0 },
      { id: 'tier', units: null },
    ])
    await refresh()
    const idle = await detailOf('idle_commitment', 'organization')
    expect(idle.alternative.note).toBe('0 units of owned instead of 3.')
    expect(idle.computation.history).toMatchObject({ every: 'week' })
  })
})

it('an older run changes nothing', async () => {
  const before = await listed('&state=all')
  nowMs = NOW - 10 * DAY_MS
  await refresh()
  nowMs = NOW
  expect(await listed('&state=all')).toEqual(before)
})

describe('the job', () => {
  const HOUR_MS = 3_600_000
  let ratingBooks: Awaited<ReturnType<typeof createRatingBookCache>>
  beforeAll(async () => {
    ratingBooks = await createRatingBookCache(database.pool)
  })
  const computedAt = async () => (await listed()).computed_at

  it('computes once a day', async () => {
    let atMs = NOW
    const handlers: JobHandler[] = []
    const logger = pino({ level: 'silent' })
    const dependencies = { pool: database.pool, ratingBooks, now: () => new Date(atMs), logger }
    defineAdviceJob(
      {
        define: (_name, handler) => void handlers.push(handler),
        add: async () => undefined,
        start: async () => undefined,
        stop: async () => undefined,
        depth: async () => 0,
        ping: async () => undefined,
      },
      dependencies,
    )
    const [run] = handlers
    const at = await computedAt()
    atMs = NOW + 19 * HOUR_MS
    await run?.({})
    expect(await computedAt()).toBe(at)
    atMs = NOW + 21 * HOUR_MS
    await run?.({})
    expect(await computedAt()).toBe(new Date(atMs).toISOString())
  })

  it('beside itself finds the same once', async () => {
    const { rows } = await database.pool.query<{ id: string }>('select id from organization')
    const now = () => new Date(NOW + 22 * HOUR_MS)
    const dependencies = { pool: database.pool, ratingBooks, now }
    const runs = await Promise.all([1, 2, 3].map(() => adviseOrganization(dependencies, rows[0]?.id ?? '')))
    const { recommendations } = await listed('&state=all')
    expect(runs.map(({ found }) => found)).toEqual(runs.map(() => recommendations.length))
    expect(new Set(recommendations.map(({ id }) => id)).size).toBe(recommendations.length)
  })

  it('of an organization without usage finds nothing', async () => {
    const dependencies = { pool: database.pool, ratingBooks, now: () => new Date(NOW) }
    expect(await adviseOrganization(dependencies, crypto.randomUUID())).toMatchObject({ found: 0 })
  })
})

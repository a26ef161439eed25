import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { sweepHolds } from '../../apps/server/src/budgets/holds/hold-store.ts'
import { checkLimits } from '../../apps/server/src/budgets/self-check.ts'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import { call, pathsOf, problemOf, submissionOf } from './api-client.ts'

/** Holds: upper bounds that keep hard limits hard, on two replicas and a clock that the tests move. */

const MONTH_MS = 31 * 24 * 3_600_000
let clockMs = Date.UTC(2027, 0, 15, 12)
const now = () => new Date(clockMs)

let database: TestDatabase
let service: TestService
let other: TestService
let test = 0
let team = ''
let calls = 0

beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url, roles: 'api', now })
  other = await startService({ databaseUrl: database.url, roles: 'api', now })
  const rates = { input_tokens: { price: '1', per: 1000 }, output_tokens: { price: '2', per: 1000 } }
  for (const model of ['unit', 'learned']) {
    await call(service, '/api/v1/prices', { body: { provider: 'acme-llm', model, rates } })
  }
})
afterAll(async () => {
  await service.stop()
  await other.stop()
  await database.drop()
})
beforeEach(() => {
  test++
  clockMs += MONTH_MS
  team = `team-${test}`
})

const holdSchema = z.looseObject({
  id: z.string(),
  state: z.string(),
  amount: z.string(),
  limits: z.array(z.looseObject({ remaining: z.string() })).optional(),
})
const status = z.object({
  statuses: z.array(z.looseObject({ spent: z.string(), held: z.string(), remaining: z.string() })),
})

async function budget(fields: object = {}): Promise<string> {
  const answer = await call(service, '/api/v1/budgets', {
    body: {
      name: `of ${team} ${calls++}`,
      amount: '10',
      period: 'month',
      scope: { dimension: 'team', value: team },
      enforcement: 'block',
      ...fields,
    },
  })
  expect([answer.status, answer.text]).toEqual([201, expect.any(String)])
  return z.object({ id: z.string() }).parse(answer.json).id
}
const ask = (fields: object = {}, replica = service) =>
  call(replica, '/api/v1/holds', {
    body: {
      event_id: `call-${calls++}`,
      team_id: team,
      provider: 'acme-llm',
      model: 'unit',
      input_tokens: 1_000,
      max_output_tokens: 1_000,
      ...fields,
    },
  })
async function hold(fields: object = {}, replica = service) {
  const answer = await ask(fields, replica)
  expect([answer.status, answer.text]).toEqual([201, expect.any(String)])
  return holdSchema.parse(answer.json)
}
const settle = (id: string, body: object) => call(service, `/api/v1/holds/${id}/settle`, { body })
const event = (fields: object = {}) => ({
  ts: now().toISOString(),
  team_id: team,
  provider: 'acme-llm',
  model: 'unit',
  input_tokens: 1_000,
  output_tokens: 100,
  ...fields,
})
async function standing(id: string) {
  const { statuses } = status.parse((await call(other, `/api/v1/budgets/${id}/status`)).json)
  const [line] = statuses
  return [line?.spent, line?.held, line?.remaining]
}

describe('a hold', () => {
  it('reserves input as counted and output at its maximum, until the ledger has the event', async () => {
    const id = await budget()
    const placed = await hold({ event_id: `whole-${team}` })
    expect(placed).toMatchObject({
      state: 'open',
      amount: '3',
      list_amount: '3',
      bound: { from: 'prices', input_from: 'request', output_from: 'request' },
      expires_at: new Date(clockMs + 120_000).toISOString(),
      limits: [{ kind: 'budget', budget: { id }, remaining: '7', limit: '10', spent: '0' }],
    })
    expect(await standing(id)).toEqual(['0', '3', '7'])
    submissionOf(await call(other, '/api/v1/usage', { body: event({ event_id: `whole-${team}` }) }))
    expect(await standing(id)).toEqual(['1.2', '0', '8.8'])
    expect(holdSchema.parse((await call(service, `/api/v1/holds/${placed.id}`)).json).state).toBe('counted')
  })

  it('is refused where a hard limit would be passed, on every replica, by name and for how long', async () => {
    const id = await budget()
    await hold()
    await hold({}, other)
    await hold()
    const answer = await ask({}, other)
    const problem = problemOf(answer, 429)
    expect(problem).toMatchObject({
      type: 'urn:tokentally:problem:budget-exceeded',
      limit: { kind: 'budget', budget: { id }, limit: '10', scope: { dimension: 'team', value: team } },
    })
    // Others are under way and may leave something.
    expect(answer.headers.get('retry-after')).toBe('1')
    submissionOf(await call(service, '/api/v1/usage', { body: event({ input_tokens: 10_000 }) }))
    const spent = await ask({ estimate_usd: '0' })
    problemOf(spent, 429)
    const end = Date.UTC(now().getUTCFullYear(), now().getUTCMonth() + 1, 1)
    expect(Number(spent.headers.get('retry-after'))).toBe(Math.ceil((end - clockMs) / 1000))
    // Another team is not affected.
    await hold({ team_id: 'others' })
  })

  it('counts for every limit that it falls under, by list or sell cost, and for none of others', async () => {
    const ids = [
      await budget({ scope: { dimension: 'customer', value: '*' }, amount: '4' }),
      await budget({ scope: { dimension: 'tag.plan', value: 'pro' } }),
      await budget({ enforcement: 'notify', amount: '1' }),
    ]
    const tags = { plan: 'pro' }
    expect((await hold({ customer_id: `${team} a`, tags })).limits).toHaveLength(2)
    problemOf(await ask({ customer_id: `${team} a`, tags }), 429)
    await hold({ customer_id: `${team} b`, tags })
    await hold({ customer_id: `${team} b`, tags: { plan: 'free' }, estimate_usd: '1' })
    expect(await standing(ids[1] ?? '')).toEqual(['0', '6', '4'])
  })

  it('that expires blocks nobody, and its call counts when it comes after all', async () => {
    const id = await budget()
    const placed = await hold({ ttl_s: 5, estimate_usd: '10', event_id: `late-${team}` })
    problemOf(await ask(), 429)
    clockMs += 5_000
    expect(await standing(id)).toEqual(['0', '0', '10'])
    expect(holdSchema.parse((await call(service, `/api/v1/holds/${placed.id}`)).json).state).toBe('expired')
    await hold()
    submissionOf(await call(service, '/api/v1/usage', { body: event({ event_id: `late-${team}` }) }))
    expect(await standing(id)).toEqual(['1.2', '3', '5.8'])
  })

  it('is settled by a cost that counts until the event comes, by the event, or released', async () => {
    const id = await budget()
    const cost = await hold({ event_id: `cost-${team}` })
    expect((await settle(cost.id, { cost: '0.5' })).json).toMatchObject({
      state: 'settled',
      settled_amount: '0.5',
    })
    clockMs += 600_000
    // Settled, it does not expire.
    expect(await standing(id)).toEqual(['0', '0.5', '9.5'])
    await sweepHolds(database.pool, now(), new Date(0))
    expect(await standing(id)).toEqual(['0', '0.5', '9.5'])
    expect((await settle(cost.id, { cost: '0.5' })).status).toBe(200)
    problemOf(await settle(cost.id, { released: true }), 409)
    submissionOf(await call(service, '/api/v1/usage', { body: event({ event_id: `cost-${team}` }) }))
    expect(await standing(id)).toEqual(['1.2', '0', '8.8'])

    const whole = await hold()
    expect((await settle(whole.id, { event: event() })).json).toMatchObject({ state: 'counted' })
    expect(await standing(id)).toEqual(['2.4', '0', '7.6'])
    const refused = await hold()
    const problem = problemOf(await settle(refused.id, { event: { ...event(), model: 7 } }), 400)
    expect(pathsOf(problem)).toEqual(['event.model'])
    expect((await settle(refused.id, { released: true })).json).toMatchObject({ state: 'released' })
    problemOf(await settle(refused.id, { cost: '1' }), 409)
    expect(await standing(id)).toEqual(['2.4', '0', '7.6'])
    problemOf(await settle(refused.id, {}), 400)
    problemOf(await settle(refused.id, { cost: '1', released: true }), 400)
  })

  it('asked for twice is one, and for a call that is in the ledger none', async () => {
    const id = await budget()
    const [first, second] = await Promise.all([
      ask({ event_id: `twice-${team}` }),
      ask({ event_id: `twice-${team}` }),
    ])
    const third = await ask({ event_id: `twice-${team}` }, other)
    const ids = [first, second, third].map((answer) => holdSchema.parse(answer.json).id)
    expect(new Set(ids).size).toBe(1)
    expect(await standing(id)).toEqual(['0', '3', '7'])
    submissionOf(await call(service, '/api/v1/usage', { body: event({ event_id: `twice-${team}` }) }))
    expect(pathsOf(problemOf(await ask({ event_id: `twice-${team}` }), 409))).toEqual(['event_id'])
  })

  it('takes what its caller does not say from what the model did before', async () => {
    const events = Array.from({ length: 100 }, (_, index) =>
      event({ model: 'learned', input_tokens: 10, output_tokens: index + 1 }),
    )
    submissionOf(await call(service, '/api/v1/usage', { body: events }))
    expect(
      await hold({ model: 'learned', input_tokens: undefined, max_output_tokens: undefined }),
    ).toMatchObject({
      amount: '0.208',
      bound: { input_tokens: 10, input_from: 'learned', output_tokens: 99, output_from: 'learned' },
    })
    expect(await hold({ max_output_tokens: undefined })).toMatchObject({
      bound: { output_tokens: 4096, output_from: 'default' },
    })
  })

  it('of a call without a price is refused under a hard limit alone', async () => {
    expect(await hold({ model: 'unknown' })).toMatchObject({ amount: '0', bound: { from: 'unpriced' } })
    await budget()
    expect(pathsOf(problemOf(await ask({ model: 'unknown' }), 422))).toEqual(['model'])
    expect(await hold({ model: 'unknown', estimate_usd: '0.5' })).toMatchObject({ amount: '0.5' })
    expect(await hold({ model: 'unknown', unpriced: 'allow' })).toMatchObject({ amount: '0' })
  })

  it('that makes no sense names its fields', async () => {
    const wrong = async (fields: object) => pathsOf(problemOf(await ask(fields), 400))
    expect(await wrong({ ttl_s: 3601, estimate_usd: '-1', promt: 'x' })).toEqual(
      expect.arrayContaining(['ttl_s', 'estimate_usd', 'promt']),
    )
    expect(await wrong({ model: undefined })).toEqual(['model'])
    problemOf(await call(service, '/api/v1/holds/00000000-0000-4000-8000-000000000000'), 404)
  })
})

it('of a thousand calls at once on two replicas exactly as many are granted as the limit covers', async () => {
  const id = await budget({ amount: '300' })
  const answers = await Promise.all(
    Array.from({ length: 1_000 }, (_, index) =>
      ask({ estimate_usd: '1' }, index % 2 === 0 ? service : other),
    ),
  )
  expect(answers.filter((answer) => answer.status === 201)).toHaveLength(300)
  expect(answers.filter((answer) => answer.status === 429)).toHaveLength(700)
  expect(await standing(id)).toEqual(['0', '300', '0'])
})

it('the self-check finds that limits and ledger agree, and says when they do not', async () => {
  await sweepHolds(database.pool, now(), new Date(0))
  expect(await checkLimits(database.pool, now())).toEqual({ differences: 0, staleHolds: 0 })
  await budget()
  submissionOf(await call(service, '/api/v1/usage', { body: [event(), event()] }))
  await hold({ ttl_s: 1 })
  expect(await checkLimits(database.pool, now())).toEqual({ differences: 0, staleHolds: 0 })
  const late = new Date(clockMs + 1_000_000)
  expect((await checkLimits(database.pool, late)).staleHolds).toBeGreaterThan(0)
  await sweepHolds(database.pool, late, new Date(0))
  expect((await checkLimits(database.pool, late)).staleHolds).toBe(0)
  // A sum that was made ahead and is wrong.
  await database.pool.query(
    `insert into usage_summary
     select organization_id, date_trunc('day', ts), 'tampered', provider, model, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1
     from usage_event where team_id = $1 limit 1`,
    [team],
  )
  expect((await checkLimits(database.pool, now())).differences).toBe(1)
})

import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { budgetStatuses } from '../../apps/server/src/budgets/index.ts'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import { type Answer, call, createKey, pathsOf, problemOf, sendUsage, submissionOf } from './api-client.ts'

/** Budgets: what may be said, how they stand, and why, on a clock that the tests move. */

const DAY_MS = 24 * 3_600_000
const START_MS = Date.UTC(2026, 9, 1, 12)
let clockMs = START_MS
const now = () => new Date(clockMs)

let database: TestDatabase
let service: TestService
/** Every test has a month and a team of its own. */
let test = 0
let team = ''

beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url, roles: 'api', now })
  const price = await call(service, '/api/v1/prices', {
    body: { provider: 'acme-llm', model: 'unit', rates: { output_tokens: { price: '1', per: 1000 } } },
  })
  expect(price.status).toBe(201)
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})
beforeEach(() => {
  test++
  clockMs = Date.UTC(2026, 9 + test, 15, 12)
  team = `team-${test}`
})

const created = z.looseObject({ id: z.string(), version: z.number() })
const statusesSchema = z.object({
  statuses: z.array(
    z.looseObject({
      scope: z.object({ dimension: z.string(), value: z.string().nullable() }),
      period: z.object({ start: z.string(), end: z.string() }),
      limit: z.string(),
      spent: z.string(),
      remaining: z.string(),
      percent: z.number(),
    }),
  ),
})

const budget = (fields: object = {}) => ({
  name: `budget of ${team}`,
  amount: '10',
  period: 'month',
  scope: { dimension: 'team', value: team },
  ...fields,
})
async function create(fields: object = {}) {
  const answer = await call(service, '/api/v1/budgets', { body: budget(fields) })
  expect([answer.status, answer.text]).toEqual([201, expect.any(String)])
  return created.parse(answer.json)
}
async function standing(id: string) {
  const answer = await call(service, `/api/v1/budgets/${id}/status`)
  expect([answer.status, answer.text]).toEqual([200, expect.any(String)])
  return statusesSchema.parse(answer.json).statuses
}
let events = 0
/** One event costs its output tokens in thousandths of a dollar. */
async function spend(usdThousandths: number, fields: object = {}, key?: string): Promise<void> {
  const event = {
    event_id: `spent-${events++}`,
    ts: now().toISOString(),
    team_id: team,
    provider: 'acme-llm',
    model: 'unit',
    output_tokens: usdThousandths,
    ...fields,
  }
  const answer = await call(service, '/api/v1/usage', { body: event, ...(key !== undefined && { key }) })
  expect(submissionOf(answer).accepted).toBe(1)
}
const wrong = (answer: Answer) => pathsOf(problemOf(answer, 400))

describe('a budget', () => {
  it('has defaults, and stands from what its period has cost already', async () => {
    await spend(2_500)
    await spend(1, { team_id: 'others' })
    await spend(1_000, { ts: new Date(clockMs - 20 * DAY_MS).toISOString() })
    const answer = await call(service, '/api/v1/budgets', { body: budget() })
    expect(answer.json).toMatchObject({
      version: 1,
      amount: '10',
      timezone: 'UTC',
      thresholds: [50, 75, 90, 100],
      basis: 'sell',
      rollover: false,
      enforcement: 'notify',
      downgrade_to: null,
      requests_per_minute: null,
      starts_at: null,
      source: 'api',
    })
    const month = (distance: number) => new Date(Date.UTC(2026, 9 + test + distance, 1)).toISOString()
    expect(await standing(created.parse(answer.json).id)).toEqual([
      expect.objectContaining({
        scope: { dimension: 'team', value: team },
        period: { start: month(0), end: month(1) },
        limit: '10',
        spent: '2.5',
        held: '0',
        remaining: '7.5',
        percent: 25,
        is_exceeded: false,
      }),
    ])
  })

  it('of every value has a line for each that has spending', async () => {
    await spend(10_000, { customer_id: `${team} a`, tags: { plan: 'pro' } })
    await spend(1, { customer_id: `${team} b`, tags: { plan: 'free' } })
    await spend(5, { tags: { plan: 'pro' } })
    const { id } = await create({ scope: { dimension: 'customer', value: '*' } })
    expect((await standing(id)).map((line) => [line.scope.value, line.spent, line.percent])).toEqual([
      [`${team} a`, '10', 100],
      [`${team} b`, '0.001', 0.01],
    ])
    const tags = await create({ name: `${team} tags`, scope: { dimension: 'tag.plan', value: '*' } })
    expect((await standing(tags.id)).map((line) => [line.scope.value, line.spent])).toEqual([
      ['free', '0.001'],
      ['pro', '10.005'],
    ])
  })

  it('of an API key counts what that key sent', async () => {
    const { id: keyId, key } = await createKey(service, ['ingest'])
    await spend(7, {}, key)
    await spend(9)
    const { id } = await create({ scope: { dimension: 'api_key', value: keyId } })
    expect((await standing(id)).map((line) => line.spent)).toEqual(['0.007'])
  })

  it('of the organization sums up all, in the days of its time zone', async () => {
    clockMs = Date.UTC(2027, 5, 1, 18, 20)
    // 23:50 of Kolkata; the next event is on the next day there.
    await spend(1)
    clockMs += 20 * 60_000
    await spend(2)
    const { id } = await create({ period: 'day', timezone: 'Asia/Kolkata', scope: undefined })
    expect(await standing(id)).toMatchObject([
      { spent: '0.002', period: { start: '2027-06-01T18:30:00.000Z', end: '2027-06-02T18:30:00.000Z' } },
    ])
    clockMs -= 20 * 60_000
    expect(await standing(id)).toMatchObject([{ spent: '0.001' }])
    expect((await call(service, `/api/v1/budgets/${id}`, { method: 'DELETE' })).status).toBe(204)
  })

  it('passes on what a period left, once, and by what it said then', async () => {
    const daily = { period: 'day', rollover: true }
    await spend(4_000)
    const { id } = await create(daily)
    // The day before this budget existed left nothing.
    expect(await standing(id)).toMatchObject([{ limit: '10', spent: '4' }])
    clockMs += DAY_MS
    expect(await standing(id)).toMatchObject([{ limit: '16', spent: '0' }])
    const answer = await call(service, `/api/v1/budgets/${id}`, {
      method: 'PUT',
      body: budget({ ...daily, amount: '100' }),
    })
    expect(answer.json).toMatchObject({ version: 2, amount: '100' })
    expect(await standing(id)).toMatchObject([{ limit: '106' }])
    clockMs += 2 * DAY_MS
    // A whole day unused: what that day got from its own predecessor is gone.
    expect(await standing(id)).toMatchObject([{ limit: '200' }])
    await spend(250_000)
    clockMs += DAY_MS
    expect(await standing(id)).toMatchObject([{ limit: '100', spent: '0' }])
  })

  it('counts from its start, within its custom period, and never outside', async () => {
    await spend(1)
    const starts = clockMs + 3_600_000
    const { id } = await create({ starts_at: new Date(starts).toISOString() })
    const custom = await create({
      name: `${team} custom`,
      period: { start: new Date(starts).toISOString(), end: new Date(starts + DAY_MS).toISOString() },
    })
    expect([...(await standing(id)), ...(await standing(custom.id))]).toEqual([])
    clockMs = starts
    await spend(2)
    expect(await standing(id)).toMatchObject([
      { spent: '0.002', period: { start: new Date(starts).toISOString() } },
    ])
    expect(await standing(custom.id)).toMatchObject([{ spent: '0.002' }])
    clockMs = starts + DAY_MS
    expect(await standing(custom.id)).toEqual([])
  })

  it('explains every change, its deletion too', async () => {
    const { id } = await create()
    await call(service, `/api/v1/budgets/${id}`, { method: 'PUT', body: budget({ enforcement: 'block' }) })
    expect((await call(service, `/api/v1/budgets/${id}`, { method: 'DELETE' })).status).toBe(204)
    for (const options of [{}, { method: 'DELETE' }, { method: 'PUT', body: budget() }]) {
      problemOf(await call(service, `/api/v1/budgets/${id}`, options), 404)
    }
    const { json } = await call(service, `/api/v1/budgets/${id}/history`)
    expect(json).toMatchObject({
      versions: [
        { version: 1, budget: { enforcement: 'notify' } },
        { version: 2, budget: { enforcement: 'block' }, api_key_id: expect.any(String) },
        { version: 3, budget: null },
      ],
    })
    // The name is free again.
    await create()
  })

  it('is listed with all that are in force, for the alerts too', async () => {
    const { id } = await create()
    await spend(5_000)
    const listed = z
      .object({ budgets: z.array(z.looseObject({ id: z.string() })) })
      .parse((await call(service, '/api/v1/budgets')).json)
    expect(listed.budgets.map((one) => one.id)).toContain(id)
    const all = statusesSchema.parse((await call(service, '/api/v1/budgets/status')).json).statuses
    expect(all.find((one) => one['budget_id'] === id)).toMatchObject({ spent: '5' })
    const statuses = await budgetStatuses(database.pool, { nowMs: clockMs })
    expect(statuses.find((one) => one.budgetId === id)).toMatchObject({
      scope: { dimension: 'team', value: team },
      limitUsd: '10',
      spentUsd: '5',
      thresholds: [50, 75, 90, 100],
    })
  })
})

describe('what cannot be a budget is refused by the names of its fields', () => {
  const cases: readonly [string, object, string][] = [
    ['a negative amount', { amount: '-1' }, 'amount'],
    ['nothing', { amount: '0.00' }, 'amount'],
    ['an absurd amount', { amount: '1000000000001' }, 'amount'],
    ['a number instead of a decimal string', { amount: 10 }, 'amount'],
    ['an unknown period', { period: 'fortnight' }, 'period'],
    [
      'a custom period that ends before it starts',
      { period: { start: '2026-02-01T00:00:00Z', end: '2026-01-01T00:00:00Z' } },
      'period.end',
    ],
    ['an unknown scope', { scope: { dimension: 'planet', value: 'mars' } }, 'scope.dimension'],
    ['a scope without a value', { scope: { dimension: 'team' } }, 'scope.value'],
    ['an organization with a value', { scope: { dimension: 'organization', value: 'x' } }, 'scope.value'],
    ['a time zone that does not exist', { timezone: 'Mars/Olympus' }, 'timezone'],
    ['a threshold of nothing', { thresholds: [0] }, 'thresholds.0'],
    ['a threshold twice', { thresholds: [50, 50] }, 'thresholds'],
    ['a downgrade to nothing', { enforcement: 'downgrade' }, 'downgrade_to'],
    ['a rate without rate limit', { requests_per_minute: 5 }, 'requests_per_minute'],
    [
      'a custom period that rolls over',
      { rollover: true, period: { start: '2026-01-01T00:00:00Z', end: '2026-02-01T00:00:00Z' } },
      'rollover',
    ],
    ['a typing mistake', { enforcment: 'block' }, 'enforcment'],
  ]
  it.each(cases)('%s', async (_what, fields, path) => {
    expect(wrong(await call(service, '/api/v1/budgets', { body: budget(fields) }))).toEqual([path])
  })

  it('all of them at once', async () => {
    const answer = await call(service, '/api/v1/budgets', {
      body: budget({ amount: '-1', period: 'x', thresholds: [-1], timezone: 'x' }),
    })
    expect([...wrong(answer)].sort()).toEqual(['amount', 'period', 'thresholds.0', 'timezone'])
  })

  it('a name that is taken', async () => {
    await create()
    expect(pathsOf(problemOf(await call(service, '/api/v1/budgets', { body: budget() }), 409))).toEqual([
      'name',
    ])
  })

  it('by a key that may not write', async () => {
    const { key } = await createKey(service, ['read', 'ingest'])
    problemOf(await call(service, '/api/v1/budgets', { body: budget(), key }), 403)
    expect((await call(service, '/api/v1/budgets', { key })).status).toBe(200)
  })
})

it('sums are those of the ledger, to the last digit', async () => {
  for (let part = 0; part < 20; part++) await spend(1 + part * 7)
  expect(await sendUsage(service, [])).toMatchObject({ status: 200 })
  const { id } = await create()
  const { rows } = await database.pool.query<{ spent: string }>(
    'select trim_scale(sum(sell_cost_usd))::text as spent from usage_event where team_id = $1',
    [team],
  )
  expect((await standing(id)).map((line) => line.spent)).toEqual([rows[0]?.spent])
})

import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { refillAccounts } from '../../apps/server/src/budgets/credit/refill.ts'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import { call, createKey, pathsOf, problemOf, submissionOf } from './api-client.ts'

/** Prepaid credit: what is paid in, used and left, on a clock that the tests move. */

let clockMs = Date.UTC(2026, 10, 15, 12)
const now = () => new Date(clockMs)

let database: TestDatabase
let service: TestService
let test = 0
let customer = ''

beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url, roles: 'api', now })
  const rates = { output_tokens: { price: '1', per: 1 } }
  await call(service, '/api/v1/prices', { body: { provider: 'acme-llm', model: 'unit', rates } })
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})
beforeEach(() => {
  test++
  customer = `customer-${test}`
})

const path = () => `/api/v1/customers/${customer}/credit`
const pay = (amount: string, fields: object = {}) => call(service, path(), { body: { amount, ...fields } })
const creditSchema = z.looseObject({
  balance: z.string(),
  held: z.string(),
  entries: z.array(z.looseObject({ kind: z.string(), amount: z.string() })),
})
const credit = async () => creditSchema.parse((await call(service, path())).json)
let events = 0
async function use(usd: number, fields: object = {}): Promise<void> {
  const event = {
    event_id: `used-${events++}`,
    ts: now().toISOString(),
    customer_id: customer,
    provider: 'acme-llm',
    model: 'unit',
    output_tokens: usd,
    ...fields,
  }
  expect(submissionOf(await call(service, '/api/v1/usage', { body: event })).accepted).toBe(1)
}
const blocked = async () =>
  z
    .object({ decisions: z.array(z.looseObject({ scope: z.object({ customer: z.string() }) })) })
    .parse((await call(service, '/api/v1/decisions')).json)
    .decisions.filter((decision) => decision.scope.customer === customer)
const hold = (usd: string) =>
  call(service, '/api/v1/holds', {
    body: {
      event_id: `held-${events++}`,
      customer_id: customer,
      provider: 'acme-llm',
      estimate_usd: usd,
    },
  })

describe('prepaid credit', () => {
  it('is what was paid in less what was used since', async () => {
    await use(7)
    problemOf(await call(service, path()), 404)
    expect((await pay('10.50', { note: 'invoice 7' })).status).toBe(201)
    expect(await credit()).toMatchObject({
      balance: '10.5',
      paid_in: '10.5',
      used: '0',
      held: '0',
      started_at: now().toISOString(),
      auto_refill: null,
      entries: [{ kind: 'top_up', amount: '10.5', note: 'invoice 7' }],
    })
    await use(4)
    await use(1, { customer_id: 'somebody else' })
    clockMs += 3 * 24 * 3_600_000
    await use(3)
    expect(await credit()).toMatchObject({ balance: '3.5', used: '7' })
    expect((await pay('-0.5', { kind: 'adjustment' })).status).toBe(201)
    expect(await credit()).toMatchObject({ balance: '3' })
  })

  it('is topped up once for each key', async () => {
    const body = { idempotency_key: 'payment-1' }
    const answers = await Promise.all([pay('5', body), pay('5', body), pay('5.0', body)])
    expect(answers.map((answer) => answer.status).sort()).toEqual([200, 200, 201])
    expect(pathsOf(problemOf(await pay('6', body), 409))).toEqual(['idempotency_key'])
    // No digit is lost on the way: a float would not tell this one from the first.
    expect(pathsOf(problemOf(await pay('5.000000000000000001', body), 409))).toEqual(['idempotency_key'])
    expect((await credit()).balance).toBe('5')
  })

  it('stops calls at zero, and lets them go on after a top-up', async () => {
    await pay('10')
    await use(9)
    expect(await blocked()).toEqual([])
    expect((await hold('0.6')).status).toBe(201)
    expect(await credit()).toMatchObject({ balance: '1', held: '0.6' })
    expect(problemOf(await hold('0.5'), 429)).toMatchObject({
      type: 'urn:tokentally:problem:credit-exhausted',
      limit: { kind: 'credit', budget: null, limit: '10', spent: '9' },
    })
    await use(1)
    expect(await blocked()).toEqual([
      {
        action: 'block',
        scope: { customer },
        reason: 'credit_exhausted',
        budget: null,
        detail: expect.stringContaining(customer),
        until: null,
      },
    ])
    await pay('1')
    expect(await blocked()).toEqual([])
  })

  it('tops itself up once for each crossing, up to its maximum of a month', async () => {
    const url = `${path()}/auto-refill`
    const rule = { threshold: '5', amount: '10', max_per_month: 2 }
    problemOf(await call(service, url, { method: 'PUT', body: { auto_refill: rule } }), 404)
    await pay('10')
    const set = await call(service, url, { method: 'PUT', body: { auto_refill: rule } })
    expect(set.json).toMatchObject({ auto_refill: rule })
    const refill = async () => {
      const done = await Promise.all([1, 2, 3].map(() => refillAccounts(database.pool, now())))
      return done.reduce((sum, one) => sum + one, 0)
    }
    await use(5)
    expect([await refill(), (await credit()).balance]).toEqual([0, '5'])
    await use(1)
    expect([await refill(), (await credit()).balance]).toEqual([1, '14'])
    expect(await refill()).toBe(0)
    await use(10)
    expect([await refill(), (await credit()).balance]).toEqual([1, '14'])
    await use(10)
    expect([await refill(), (await credit()).balance]).toEqual([0, '4'])
    clockMs = Date.UTC(2026, 11, 1, 1)
    expect([await refill(), (await credit()).balance]).toEqual([1, '14'])
    expect((await credit()).entries.map((entry) => entry.kind)).toEqual([
      'auto_refill',
      'auto_refill',
      'auto_refill',
      'top_up',
    ])
    await call(service, url, { method: 'PUT', body: { auto_refill: null } })
    await use(14)
    expect(await refill()).toBe(0)
  })

  it('names what is wrong', async () => {
    const wrong = async (body: object) => pathsOf(problemOf(await call(service, path(), { body }), 400))
    expect(await wrong({ amount: '-5' })).toEqual(['amount'])
    expect(await wrong({ amount: '0' })).toEqual(['amount'])
    expect(await wrong({ amount: '99999999999', kind: 'gift' })).toEqual(
      expect.arrayContaining(['kind', 'amount']),
    )
    const { key } = await createKey(service, ['read', 'ingest'])
    problemOf(await call(service, path(), { body: { amount: '1' }, key }), 403)
  })
})

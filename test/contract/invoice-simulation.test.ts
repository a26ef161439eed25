import { decimal, decimalText, ZERO } from '@tokentally/core'
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
import { insertInvoice, usageLine } from './invoices.ts'

/** What invoices would have been under other rules, held against what the invoices are under those rules. */

let clockMs = Date.parse('2026-09-30T12:00:00Z')
let database: TestDatabase
let service: TestService

const RULES = [
  { id: 'all', markup: 0.2 },
  { id: 'acme', customer: 'acme', discount: '0.333' },
  {
    id: 'acme-prices',
    customer: 'acme',
    model: 'gpt-4o',
    prices: { input_tokens: { price: '9', per: 1_000_000 } },
  },
  { id: 'umbrella', customer: 'umbrella', minimum: '0.02' },
]

beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url, now: () => new Date(clockMs) })
  const rates = { source: 'desk', published_at: '2026-09-30T09:00:00Z', units_per_eur: { USD: '1.0870' } }
  await ok('/api/v1/fx-rates', rates)
  await ok('/api/v1/customers/acme', { currency: 'EUR', source: 'desk' }, 'PUT')
  for (const rule of RULES) await ok('/api/v1/markup-rules', rule)
  await profile('acme', { currency: 'EUR', lines_by: ['model', 'feature'] })
  await profile('umbrella', { allowance: '0.05', discount: '0.1', minimum: '0.2' })
  await profile('plain', { lines_by: ['meter'] })

  clockMs = Date.parse('2026-10-31T12:00:00Z')
  await send('october', '2026-10-30T12:00:00Z')
  await correct('october-acme-0')
  clockMs = Date.parse('2026-11-03T12:00:00Z')
  await ok('/api/v1/invoices/close', {})

  // Late usage, a price that comes after the invoice, and a correction of what is invoiced: all of it is November's.
  await send('late', '2026-10-31T12:00:00Z')
  await correct('october-umbrella-1')
  const price = {
    provider: 'acme-ai',
    model: 'acme-1',
    rates: { input_tokens: { price: '200', per: 1_000_000 } },
  }
  await ok('/api/v1/prices', price)
  await waitFor(async () => {
    const { rows } = await database.pool.query<{ count: number }>(
      'select count(*)::int as count from late_rating',
    )
    return rows[0]?.count === 6
  }, 'the late ratings')
  await send('november', '2026-11-02T12:00:00Z')
  clockMs = Date.parse('2026-12-03T12:00:00Z')
  await ok('/api/v1/invoices/close', {})
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})

async function ok(path: string, body: object, method = 'POST') {
  const answer = await call(service, path, { method, body })
  expect([path, answer.status < 300, answer.text]).toEqual([path, true, expect.any(String)])
}

const profile = (customer: string, fields: object) =>
  ok(`/api/v1/billing-profiles/${customer}`, { starts_on: '2026-10-01', ...fields }, 'PUT')

async function send(prefix: string, ts: string) {
  const calls = [
    { provider: 'openai', model: 'gpt-4o', input_tokens: 51_234, output_tokens: 777, feature: 'chat' },
    { provider: 'anthropic', model: 'claude-haiku-4-5', input_tokens: 90_001, meters: { requests: 3 } },
    { provider: 'openai', model: 'gpt-4o-mini', input_tokens: 900, status: 'error' },
    { provider: 'acme-ai', model: 'acme-1', input_tokens: 4001 },
  ]
  const events = ['acme', 'umbrella', 'plain'].flatMap((customer) =>
    calls.map((usage, index) => ({
      ...usage,
      customer_id: customer,
      event_id: `${prefix}-${customer}-${index}`,
      ts,
    })),
  )
  expect(submissionOf(await sendUsage(service, events)).accepted).toBe(events.length)
}

const correct = (eventId: string) =>
  ok('/api/v1/corrections', {
    reason: 'counted wrong',
    select: { event_ids: [eventId] },
    change: { set: { input_tokens: 70_000 } },
  })

const sums = {
  currency: z.string(),
  list_cost: z.string(),
  revenue_before: z.string(),
  revenue_after: z.string(),
  difference: z.string(),
  margin_before: z.string(),
  margin_after: z.string(),
}
const resultSchema = z.object({
  invoices: z.array(
    z.looseObject({
      ...sums,
      invoice_id: z.string(),
      customer_id: z.string(),
      period: z.object({ start: z.string(), end: z.string() }),
      reason: z.null(),
    }),
  ),
  customers: z.array(z.object({ customer_id: z.string(), invoices: z.number(), ...sums })),
  totals: z.array(z.object({ invoices: z.number(), ...sums })),
})

async function lastLine(body: object): Promise<unknown> {
  const answer = await call(service, '/api/v1/invoices/simulate', { body })
  expect([answer.status, answer.text]).toEqual([200, expect.any(String)])
  expect(answer.headers.get('content-type')).toBe('application/x-ndjson')
  return JSON.parse(answer.text.trimEnd().split('\n').at(-1) ?? '')
}
const simulate = async (body: object) => z.object({ result: resultSchema }).parse(await lastLine(body)).result

const plus = (amounts: readonly string[]) =>
  decimalText(amounts.reduce((total, amount) => total.plus(decimal(amount)), ZERO))

describe('POST /api/v1/invoices/simulate', () => {
  it('gives each invoice as it is under the rules that it was sold by', async () => {
    const { invoices } = await simulate({})
    expect(invoices.map(({ customer_id, period }) => `${customer_id} ${period.start.slice(0, 7)}`)).toEqual([
      'acme 2026-10',
      'acme 2026-11',
      'plain 2026-10',
      'plain 2026-11',
      'umbrella 2026-10',
      'umbrella 2026-11',
    ])
    for (const one of invoices) {
      expect([one.customer_id, one.period.start, one.revenue_after]).toEqual([
        one.customer_id,
        one.period.start,
        one.revenue_before,
      ])
      const { json } = await call(service, `/api/v1/invoices/${one.invoice_id}`)
      expect(one.revenue_before).toBe(z.looseObject({ total: z.string() }).parse(json).total)
      expect(decimal(one.revenue_before).gt(ZERO)).toBe(true)
    }
  })

  it('tells revenue, list cost and margin under other rules, and puts the profile on top', async () => {
    const free = await simulate({ rules: [{ id: 'free', discount: 1 }] })
    // What is left is the minimum.
    expect(free.customers.map(({ customer_id, revenue_after }) => [customer_id, revenue_after])).toEqual([
      ['acme', '0'],
      ['plain', '0'],
      ['umbrella', '0.4'],
    ])
    const atCost = await simulate({ rules: [] })
    const tripled = await simulate({ text: 'rule "triple" { markup = 2 }' })
    for (const [index, one] of atCost.invoices.entries()) {
      expect(one.list_cost).toBe(free.invoices[index]?.list_cost)
      if (one.customer_id === 'umbrella') continue
      // Rounded once, on the total.
      const exact = decimal(one.list_cost)
      expect(decimal(one.revenue_after).minus(exact).abs().lte(decimal('0.005'))).toBe(true)
      const triple = decimal(tripled.invoices[index]?.revenue_after ?? '0')
      expect(
        triple
          .minus(exact.times(decimal('3')))
          .abs()
          .lte(decimal('0.005')),
      ).toBe(true)
    }
    for (const { invoices, customers, totals } of [free, atCost, tripled]) {
      for (const one of [...invoices, ...customers, ...totals]) {
        expect(one.difference).toBe(plus([one.revenue_after, `-${one.revenue_before}`]))
        expect(one.margin_after).toBe(decimalText(decimal(one.revenue_after).minus(decimal(one.list_cost))))
        expect(one.margin_before).toBe(decimalText(decimal(one.revenue_before).minus(decimal(one.list_cost))))
      }
      expect(totals.map(({ currency, invoices: count }) => [currency, count])).toEqual([
        ['EUR', 2],
        ['USD', 4],
      ])
      for (const total of totals) {
        const own = invoices.filter(({ currency }) => currency === total.currency)
        expect(total.revenue_after).toBe(plus(own.map(({ revenue_after }) => revenue_after)))
        expect(total.list_cost).toBe(plus(own.map(({ list_cost }) => list_cost)))
      }
    }
  })

  it('takes the customers and as many invoices as are asked for', async () => {
    const { invoices } = await simulate({ customers: ['plain', 'nobody'], invoices: 1, rules: [] })
    expect(invoices.map(({ customer_id, period }) => [customer_id, period.start.slice(0, 7)])).toEqual([
      ['plain', '2026-11'],
    ])
    expect(await simulate({ customers: ['nobody'] })).toEqual({ invoices: [], customers: [], totals: [] })
  })

  it('leaves void invoices out, and says why one has no answer', async () => {
    await insertInvoice(database.pool, {
      customer: 'gone',
      start: '2026-10-01',
      end: '2026-11-01',
      status: 'void',
    })
    await insertInvoice(database.pool, {
      customer: 'plain-in-francs',
      start: '2026-10-01',
      end: '2026-11-01',
      position: 9,
      profile: { currency: 'CHF' },
      lines: [usageLine(1, 'm', '1')],
    })
    await sendPositioned('plain-in-francs')
    const line = await lastLine({ customers: ['gone', 'plain-in-francs'], rules: [] })
    expect(line).toMatchObject({
      result: {
        invoices: [
          {
            customer_id: 'plain-in-francs',
            revenue_after: null,
            reason: expect.stringContaining('USD to CHF'),
          },
        ],
        customers: [],
        totals: [],
      },
    })
  })

  /** Usage of October, in a batch of position 9. */
  async function sendPositioned(customer: string) {
    const usage = { provider: 'openai', model: 'gpt-4o', input_tokens: 1000, ts: '2026-10-05T00:00:00Z' }
    submissionOf(await sendUsage(service, [{ ...usage, customer_id: customer }]))
    await database.pool.query('update ledger_batch set position = 9 where position is null')
  }

  it.each([
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
    ['no invoices', { invoices: 0 }, 400, ['invoices']],
    ['an unknown field', { group_by: [] }, 400, ['group_by']],
  ])('refuses %s, and names the field', async (_, body, status, paths) => {
    const problem = problemOf(await call(service, '/api/v1/invoices/simulate', { body }), status)
    expect(pathsOf(problem)).toEqual(paths)
  })

  it('needs the scope read', async () => {
    const { key } = await createKey(service, ['ingest'])
    problemOf(await call(service, '/api/v1/invoices/simulate', { body: {}, key }), 403)
  })
})

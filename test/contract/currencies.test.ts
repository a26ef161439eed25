import { createServer, type Server } from 'node:http'
import { decimal, decimalText } from '@tokentally/core'
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

/** Exchange rates, and what customers pay in. */

let database: TestDatabase
let service: TestService
/** Another replica on the same database. */
let other: TestService
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url })
  other = await startService({ databaseUrl: database.url })
})
afterAll(async () => {
  await other.stop()
  await service.stop()
  await database.drop()
})

/** Friday and Monday. */
const CSV = 'Date,USD,GBP,JPY,\n2026-03-09,1.0905,0.8388,N/A,\n2026-03-06,1.0870,0.8362,161.84,\n'
const XML = `<?xml version="1.0"?><gesmes:Envelope xmlns:gesmes="g"><Cube>
  <Cube time='2026-03-06'><Cube currency='USD' rate='1.0870'/><Cube currency='SEK' rate='10.87'/></Cube>
</Cube></gesmes:Envelope>`

const load = (body: string, type = 'text/csv', key?: string) =>
  call(service, '/api/v1/fx-rates', {
    method: 'POST',
    body,
    headers: { 'content-type': type },
    ...(key && { key }),
  })
const put = (customer: string, body: object, to = service) =>
  call(to, `/api/v1/customers/${customer}`, { method: 'PUT', body })
const ratesSchema = z.object({
  rates: z.array(
    z.object({
      currency: z.string(),
      date: z.string(),
      units_per_eur: z.string(),
      units_per_usd: z.string().nullable(),
    }),
  ),
})
const ratesOf = async (query: string, from = service) =>
  ratesSchema.parse((await call(from, `/api/v1/fx-rates?${query}`)).json).rates
const chargedOf = async (id: string) =>
  z
    .object({ rating: z.object({ total_cost: z.string().nullable(), charged: z.unknown() }) })
    .parse((await call(service, `/api/v1/usage/${id}`)).json).rating
/** 0.00021 US dollars. */
const event = (event_id: string, customer_id: string, more: object = {}) => ({
  event_id,
  ts: '2026-03-08T12:00:00Z',
  provider: 'openai',
  model: 'gpt-4o-mini',
  customer_id,
  input_tokens: 1000,
  output_tokens: 100,
  ...more,
})

describe('exchange rates', () => {
  it('are loaded from a file of the bank, once; what is kept is never changed', async () => {
    const first = await load(CSV)
    expect([first.status, first.json]).toEqual([200, { source: 'ecb', rates: 5, added: 5, differing: [] }])
    expect((await load(XML, 'application/xml')).json).toMatchObject({ rates: 2, added: 1, differing: [] })
    expect((await load(CSV.replace('0.8362', '0.9'))).json).toMatchObject({
      added: 0,
      differing: [{ currency: 'GBP', valid_from: '2026-03-06T00:00:00.000Z', kept: '0.8362', given: '0.9' }],
    })
    await expect(database.pool.query('update fx_rate set units_per_eur = 1')).rejects.toMatchObject({
      code: '23001',
    })
  })

  it('of a day without any are those of the last day before', async () => {
    for (const date of ['2026-03-06', '2026-03-07', '2026-03-08']) {
      expect(await ratesOf(`date=${date}&currency=GBP`, other)).toEqual([
        expect.objectContaining({
          date: '2026-03-06',
          units_per_eur: '0.8362',
          units_per_usd: '0.7692732291',
        }),
      ])
    }
    expect(await ratesOf('date=2026-03-08&currency=EUR')).toMatchObject([{ units_per_usd: '0.9199632015' }])
    expect((await ratesOf('date=2026-03-09')).map(({ currency }) => currency)).toEqual(['GBP', 'USD'])
    expect(await ratesOf('date=2026-03-05')).toEqual([])
  })

  const broken: readonly (readonly [string, string, string, readonly string[]])[] = [
    ['an empty body', '', 'text/csv', ['line 1']],
    ['a broken line', 'Date,USD,\n2026-03-06,1.0870,\n2026-03-05,x,\n', 'text/csv', ['line 3']],
    ['a day that is none', XML.replace('03-06', '02-30'), 'application/xml', ['day "2026-02-30"']],
    ['the future', 'Date,USD,\n2999-01-01,1,\n', 'text/csv', ['day 2999-01-01']],
    [
      'JSON without a dollar',
      '{"source":"desk","published_at":"2026-03-06T10:00:00Z","units_per_eur":{"GBP":"1"}}',
      'application/json',
      ['units_per_eur'],
    ],
    [
      'JSON of the bank',
      '{"source":"ecb","published_at":"2026-03-06T10:00:00Z","units_per_eur":{"USD":"1"}}',
      'application/json',
      ['source'],
    ],
    [
      'a rate that is a number',
      '{"source":"desk","published_at":"2026-03-06T10:00:00Z","units_per_eur":{"USD":1}}',
      'application/json',
      ['units_per_eur.USD'],
    ],
  ]
  it.each(broken)('with %s are refused, and nothing is loaded', async (_name, body, type, paths) => {
    const count = async () => (await database.pool.query('select from fx_rate')).rowCount
    const before = await count()
    expect(pathsOf(problemOf(await load(body, type), 400))).toEqual(paths)
    expect(await count()).toBe(before)
  })

  it('are loaded by an admin only', async () => {
    const { key } = await createKey(service, ['write', 'read'])
    problemOf(await load(CSV, 'text/csv', key), 403)
  })
})

describe('what a customer pays in', () => {
  it('is US dollars until something else is set', async () => {
    expect((await call(service, '/api/v1/customers/nobody-yet')).json).toEqual({
      customer_id: 'nobody-yet',
      currency: 'USD',
      source: null,
      effective_from: null,
      history: [],
    })
  })

  it('is in force for the next event on every replica, and frozen with each event', async () => {
    submissionOf(await sendUsage(other, event('before', 'acme')))
    const answer = await put('acme', { currency: 'GBP' })
    expect([answer.status, answer.json]).toMatchObject([
      200,
      { currency: 'GBP', history: [{ currency: 'GBP' }] },
    ])
    submissionOf(await sendUsage(other, event('after', 'acme')))
    const now = { ts: new Date().toISOString() }
    expect((await put('acme', { currency: 'EUR' }, other)).status).toBe(200)
    submissionOf(
      await sendUsage(service, [
        event('late', 'acme'),
        event('euro', 'acme', { ts: new Date().toISOString() }),
      ]),
    )
    expect(await load(`Date,USD,\n${now.ts.slice(0, 10)},1.5,\n`)).toMatchObject({ status: 200 })
    submissionOf(await sendUsage(other, event('new-rate', 'acme', { ts: new Date().toISOString() })))

    expect((await chargedOf('before')).charged).toEqual({
      currency: 'USD',
      amount: '0.00021',
      fx_rate: null,
      fx_date: null,
    })
    const pounds = {
      currency: 'GBP',
      amount: decimalText(decimal('0.00021').times(decimal('0.7692732291'))),
      fx_rate: '0.7692732291',
      fx_date: '2026-03-06',
    }
    expect((await chargedOf('after')).charged).toEqual(pounds)
    // It happened when the customer paid in pounds.
    expect((await chargedOf('late')).charged).toEqual(pounds)
    expect((await chargedOf('euro')).charged).toMatchObject({
      currency: 'EUR',
      fx_date: '2026-03-09',
      fx_rate: '0.9170105456',
    })
    expect((await chargedOf('new-rate')).charged).toMatchObject({
      currency: 'EUR',
      fx_date: now.ts.slice(0, 10),
      amount: '0.000140000000007',
    })
  })

  it('stays as it was when the event is rated late, and follows the customer when it is corrected', async () => {
    submissionOf(await sendUsage(service, event('unpriced', 'beta', { provider: 'own', model: 'x' })))
    expect((await put('beta', { currency: 'SEK' })).status).toBe(200)
    const rates = {
      input_tokens: { price: '1', per: 1_000_000 },
      output_tokens: { price: '1', per: 1_000_000 },
    }
    await call(service, '/api/v1/prices', { body: { provider: 'own', model: 'x', rates } })
    await waitFor(async () => (await chargedOf('unpriced')).total_cost === '0.0011', 'it is rated')
    expect((await chargedOf('unpriced')).charged).toMatchObject({ currency: 'USD', amount: '0.0011' })

    const body = {
      reason: 'beta pays in crowns',
      select: { event_ids: ['unpriced'] },
      change: { rerate: true },
    }
    expect((await call(service, '/api/v1/corrections', { body })).json).toMatchObject({
      before: { total_cost: '0.0011', charged: [{ currency: 'USD', amount: '0.0011' }] },
      after: { total_cost: '0.0011', charged: [{ currency: 'SEK', amount: '0.011' }] },
    })
    const aggregate = await call(
      service,
      '/api/v1/costs/aggregate?start=2026-03-08&end=2026-03-09&currency=charged&customer=beta',
    )
    expect(aggregate.json).toMatchObject({
      groups: [{ charged_currency: 'SEK', charged_amount: '0.011', requests: 1, total_cost: '0.0011' }],
      charged: [{ currency: 'SEK', amount: '0.011' }],
    })
  })

  it('can be by rates of another source, within the day', async () => {
    const desk = (published_at: string, GBP: string) =>
      load(
        JSON.stringify({ source: 'desk', published_at, units_per_eur: { USD: '1.25', GBP } }),
        'application/json',
      )
    expect((await desk('2026-03-08T09:00:00Z', '1')).json).toMatchObject({ source: 'desk', added: 2 })
    expect((await desk('2026-03-08T12:00:00Z', '1.25')).json).toMatchObject({ added: 2 })
    expect((await put('desk-customer', { currency: 'GBP', source: 'desk' })).status).toBe(200)
    submissionOf(
      await sendUsage(service, [
        event('early', 'desk-customer', { ts: '2026-03-08T08:59:59Z' }),
        event('morning', 'desk-customer', { ts: '2026-03-08T11:59:59Z' }),
        event('noon', 'desk-customer'),
      ]),
    )
    expect((await chargedOf('early')).charged).toMatchObject({ currency: 'USD' })
    expect((await chargedOf('morning')).charged).toMatchObject({ currency: 'GBP', fx_rate: '0.8' })
    expect((await chargedOf('noon')).charged).toMatchObject({ currency: 'GBP', fx_rate: '1' })
  })

  it.each([
    ['a currency without a rate', { currency: 'CHF' }, ['currency']],
    ['a code that nobody knows', { currency: 'XQZ' }, ['currency']],
    ['no code', { currency: 'eur' }, ['currency']],
    ['a source that is not there', { currency: 'GBP', source: 'nowhere' }, ['currency']],
    ['nothing', {}, ['currency']],
    ['an unknown field', { currency: 'EUR', rate: '1' }, ['rate']],
  ])('%s is refused, and nothing is set', async (_name, body, paths) => {
    expect(pathsOf(problemOf(await put('refused', body), 400))).toEqual(paths)
    expect((await call(service, '/api/v1/customers/refused')).json).toMatchObject({ history: [] })
  })
})

describe('margin', () => {
  it('stands beside list and sell cost in every report', async () => {
    const sums = { list_cost: '0.00021', total_cost: '0.00021', margin: '0', margin_percent: '0' }
    const query = 'start=2026-03-20&end=2026-03-21'
    submissionOf(await sendUsage(service, event('margin', 'gamma', { ts: '2026-03-20T12:00:00Z' })))
    expect((await call(service, `/api/v1/costs/aggregate?${query}&group_by=customer`)).json).toMatchObject({
      groups: [{ customer: 'gamma', ...sums }],
      totals: sums,
    })
    expect((await call(service, `/tenant/gamma/summary?${query}`)).json).toMatchObject({
      list_cost: '0.00021',
      margin: '0',
      margin_percent: '0',
      models: [{ list_cost: '0.00021', margin: '0' }],
    })
    expect(
      (await call(service, '/api/v1/costs/aggregate?start=2026-03-21&end=2026-03-22')).json,
    ).toMatchObject({
      totals: { margin: '0', margin_percent: null },
    })
  })

  it('refuses another currency', async () => {
    problemOf(await call(service, '/api/v1/costs/aggregate?currency=EUR'), 400)
  })
})

describe('rates that are fetched', () => {
  let bank: Server
  let answer: { readonly status: number; readonly body: string }
  let fetched = 0
  beforeAll(async () => {
    bank = createServer((_request, response) => {
      fetched++
      response.writeHead(answer.status).end(answer.body)
    })
    await new Promise<void>((resolve) => bank.listen(0, '127.0.0.1', resolve))
  })
  afterAll(() => new Promise((resolve) => bank.close(resolve)))

  it('come by themselves, and the service goes on without them', async () => {
    const address = bank.address()
    const port = typeof address === 'object' ? address?.port : 0
    const own = await createTestDatabase()
    const start = () =>
      startService({
        databaseUrl: own.url,
        environment: { TOKENTALLY_FX_URL: `http://127.0.0.1:${port}/eurofxref-hist-90d.xml` },
      })
    const failures = async (from: TestService) =>
      /^tokentally_fx_refresh_failures_total (\d+)$/m.exec(
        (await call(from, '/metrics', { key: null })).text,
      )?.[1]
    answer = { status: 200, body: XML }
    let started = await start()
    try {
      await waitFor(
        async () => (await ratesOf('date=2026-03-06', started)).length === 2,
        'the rates are there',
      )
      expect(await failures(started)).toBe('0')
      expect((await put('acme', { currency: 'SEK' }, started)).status).toBe(200)
    } finally {
      await started.stop()
    }
    expect(fetched).toBe(1)
    await own.drop()

    const empty = await createTestDatabase()
    answer = { status: 500, body: 'the bank is closed' }
    started = await startService({
      databaseUrl: empty.url,
      environment: { TOKENTALLY_FX_URL: `http://127.0.0.1:${port}/` },
    })
    try {
      await waitFor(async () => (await failures(started)) === '1', 'the failure is counted')
      expect((await call(started, '/readyz', { key: null })).status).toBe(200)
      submissionOf(await sendUsage(started, event('anyway', 'acme')))
    } finally {
      await started.stop()
      await empty.drop()
    }
  })
})

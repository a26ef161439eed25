import { decimal, decimalText, ZERO } from '@tokentally/core'
import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { claimStep } from '../../apps/server/src/billing-systems/outbox/outbox-store.ts'
import { performSteps } from '../../apps/server/src/billing-systems/outbox/perform-steps.ts'
import { createStripeClients } from '../../apps/server/src/billing-systems/stripe/client.ts'
import { createStripe } from '../../apps/server/src/billing-systems/stripe/index.ts'
import { rateLate } from '../../apps/server/src/ledger/index.ts'
import { createRatingBookCache } from '../../apps/server/src/pricing/index.ts'
import { createMetrics } from '../../apps/server/src/telemetry/metrics.ts'
import { type FakeStripe, type Fault, startFakeStripe } from '../fake-stripe/index.ts'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import { call, pathsOf, problemOf, sendUsage, submissionOf } from './api-client.ts'

/** Stripe's meters: all that the ledger says, once, whatever goes wrong; expected sums come from its rows. */

const RUNS = Number(process.env['STRIPE_METER_RUNS'] ?? '3')
const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS
const METERS = [
  { event_name: 'tt_input', value: 'input_tokens' },
  { event_name: 'tt_output', value: 'output_tokens', display_name: 'Output' },
  { event_name: 'tt_tokens', value: 'tokens' },
  { event_name: 'tt_calls', value: 'requests' },
  { event_name: 'tt_sold', value: 'sell_amount' },
]

let clockMs = Date.parse('2026-10-01T00:00:00Z')
const now = () => new Date(clockMs)

let database: TestDatabase
let service: TestService
let fake: FakeStripe
beforeAll(async () => {
  database = await createTestDatabase()
  fake = await startFakeStripe({ now })
  service = await startService({
    databaseUrl: database.url,
    roles: 'api',
    now,
    environment: { TOKENTALLY_STRIPE_URL: fake.url },
  })
  await put('/api/v1/billing-systems/stripe', {
    settings: { meters: METERS },
    secrets: { api_key: 'sk_test_fake' },
  })
})
afterAll(async () => {
  await service.stop()
  await fake.stop()
  await database.drop()
})
beforeEach(() => fake.fail(undefined))

async function put(path: string, body: object): Promise<void> {
  const answer = await call(service, path, { method: 'PUT', body })
  expect([answer.status < 300, answer.text]).toEqual([true, expect.any(String)])
}

const stripe = () => createStripe(createStripeClients({ url: fake.url, timeoutMs: 200 }))
const perform = () =>
  performSteps({
    pool: database.pool,
    systems: [stripe()],
    secretKey: Buffer.alloc(32, 7),
    now,
    random: () => 0.5,
    logger: { warn: () => undefined, error: () => undefined },
    metrics: createMetrics(),
  })

const countedSchema = z.object({
  position: z.string().nullable(),
  customers: z.number(),
  events: z.number(),
  skipped: z.array(z.object({ customer_id: z.string().nullable(), reason: z.string() })),
})
async function count(): Promise<z.infer<typeof countedSchema>> {
  const { json } = await call(service, '/api/v1/billing-systems/stripe/meters/count', { method: 'POST' })
  return countedSchema.parse(json)
}

/** Until nothing waits. */
async function settle(): Promise<void> {
  fake.fail(undefined)
  for (;;) {
    clockMs += HOUR_MS
    await perform()
    const { rows } = await database.pool.query<{ status: string; last_error: string | null }>(
      "select status, last_error from outbox_step where status <> 'done'",
    )
    expect(rows.filter(({ status }) => status === 'refused')).toEqual([])
    if (rows.length === 0) return
  }
}

/** Makes the meters, and a customer of Stripe's meters. @returns its id at Stripe */
async function metered(customer: string, profile: object = {}): Promise<string> {
  await count()
  await settle()
  const { id } = fake.objects.createCustomer({})
  await put(`/api/v1/billing-profiles/${customer}`, {
    system: 'stripe_meters',
    stripe_customer_id: id,
    starts_on: now().toISOString().slice(0, 10),
    lines_by: ['meter'],
    grace_hours: 0,
    ...profile,
  })
  return id
}

let sentEvents = 0
async function use(customer: string, fields: object = {}): Promise<string> {
  sentEvents += 1
  const event_id = `event-${sentEvents}`
  const body = {
    event_id,
    ts: now().toISOString(),
    customer_id: customer,
    provider: 'openai',
    model: 'gpt-4o-mini',
    input_tokens: 1000,
    output_tokens: 100,
    ...fields,
  }
  expect(submissionOf(await sendUsage(service, [body])).accepted).toBe(1)
  return event_id
}

async function correct(eventId: string, change: object): Promise<void> {
  const body = { reason: 'a test', select: { event_ids: [eventId] }, change }
  const { status, text } = await call(service, '/api/v1/corrections', { body })
  // Chance may ask for what an event is already.
  const isDone = status < 300 || text.includes('There is nothing to correct.')
  expect([isDone, text]).toEqual([true, expect.any(String)])
}

interface Told {
  readonly value: string
  readonly atMs: number
}
function toldTo(stripeCustomer: string, eventName: string): readonly Told[] {
  return [...fake.objects.meterEvents.values()].flatMap((event) => {
    const { event_name, payload, timestamp } = z
      .object({
        event_name: z.string(),
        payload: z.object({ stripe_customer_id: z.string(), value: z.string() }),
        timestamp: z.number(),
      })
      .parse(event)
    const isAsked = event_name === eventName && payload.stripe_customer_id === stripeCustomer
    return isAsked ? [{ value: payload.value, atMs: timestamp * 1000 }] : []
  })
}
const sum = (values: readonly string[]) =>
  decimalText(values.reduce((total, value) => total.plus(decimal(value)), ZERO))
const sumOf = (stripeCustomer: string, eventName: string) =>
  sum(toldTo(stripeCustomer, eventName).map(({ value }) => value))

/** What the rows of the ledger come to, whole, by event name. */
async function ledgerOf(customer: string): Promise<Record<string, string>> {
  const { rows } = await database.pool.query<Record<string, string>>(
    `with entry as (
       select case entry_kind when 'reversal' then -1 else 1 end as sign, input_tokens, output_tokens, sell_cost_usd
       from usage_event where customer_id = $1
       union all
       select 0, 0, 0, late.sell_cost_usd from late_rating as late
       join usage_event as event using (organization_id, event_id) where event.customer_id = $1
     )
     select coalesce(sum(sign * input_tokens), 0)::text as tt_input,
       coalesce(sum(sign * output_tokens), 0)::text as tt_output,
       coalesce(sum(sign * (input_tokens + output_tokens)), 0)::text as tt_tokens,
       coalesce(sum(sign), 0)::text as tt_calls,
       floor(coalesce(sum(case sign when -1 then -1 else 1 end * sell_cost_usd), 0) * 100)::text as tt_sold
     from entry`,
    [customer],
  )
  return rows[0] ?? {}
}
const stripeSums = (stripeCustomer: string) =>
  Object.fromEntries(METERS.map(({ event_name }) => [event_name, sumOf(stripeCustomer, event_name)]))

describe('settings', () => {
  it.each([
    [[{ event_name: 'a b', value: 'tokens' }], 'settings.meters.0.event_name'],
    [[{ event_name: 'a', value: 'Tokens' }], 'settings.meters.0.value'],
    [[{ event_name: 'a', value: 'tokens', formula: 'max' }], 'settings.meters.0'],
    [
      [
        { event_name: 'a', value: 'tokens' },
        { event_name: 'a', value: 'requests' },
      ],
      'settings.meters.1.event_name',
    ],
  ])('%j are refused', async (meters, path) => {
    const answer = await call(service, '/api/v1/billing-systems/stripe', {
      method: 'PUT',
      body: { settings: { meters } },
    })
    expect(pathsOf(problemOf(answer, 400))).toContain(path)
  })

  it('meters are made once, and one that counts otherwise is refused', async () => {
    await metered('first')
    await count()
    await perform()
    expect(
      [...fake.objects.meters.values()].map((meter) => [meter['event_name'], meter['display_name']]),
    ).toEqual(
      expect.arrayContaining([
        ['tt_input', 'tt_input'],
        ['tt_output', 'Output'],
      ]),
    )
    expect(fake.objects.meters.size).toBe(METERS.length)

    fake.objects.createMeter({
      event_name: 'theirs',
      display_name: 'theirs',
      default_aggregation: { formula: 'last' },
    })
    const meters = [...METERS, { event_name: 'theirs', value: 'tokens' }]
    await put('/api/v1/billing-systems/stripe', { settings: { meters } })
    expect((await count()).skipped).toMatchObject([{ customer_id: null }])
    await perform()
    const refused = await call(service, '/api/v1/outbox?stream=meter:theirs')
    expect(refused.json).toMatchObject({ steps: [{ status: 'refused' }] })
    await put('/api/v1/billing-systems/stripe', { settings: { meters: METERS } })
    await database.pool.query("delete from outbox_step where stream = 'meter:theirs'")
  })
})

describe('usage', () => {
  it('comes with the timestamp of its day; late usage and corrections follow, below zero too', async () => {
    const there = await metered('days')
    clockMs = Math.ceil(clockMs / DAY_MS) * DAY_MS + 10 * HOUR_MS
    const today = clockMs - 10 * HOUR_MS
    const id = await use('days')
    await use('days', { ts: new Date(clockMs + HOUR_MS).toISOString() })
    clockMs += MINUTE_MS
    expect(await count()).toMatchObject({ skipped: [] })
    const again = await count()
    expect([again.events, again.skipped.map(({ customer_id }) => customer_id)]).toEqual([
      0,
      expect.arrayContaining(['days']),
    ])
    await perform()
    // What lies in the future is not sent.
    expect(toldTo(there, 'tt_tokens')).toEqual([{ value: '1100', atMs: today }])

    clockMs += DAY_MS
    const late = await use('days', { ts: new Date(today).toISOString(), input_tokens: 7, output_tokens: 0 })
    await correct(id, { set: { input_tokens: 1 } })
    await count()
    await perform()
    expect(toldTo(there, 'tt_tokens')).toEqual([
      { value: '1100', atMs: today },
      { value: '108', atMs: today + MINUTE_MS },
    ])
    expect(toldTo(there, 'tt_input').map(({ value }) => value)).toEqual(['1000', '8'])

    clockMs += HOUR_MS
    await correct(late, { void: true })
    await count()
    await perform()
    expect(toldTo(there, 'tt_calls').map(({ value }) => value)).toEqual(['1', '2', '-1'])
    expect(stripeSums(there)).toEqual(await ledgerOf('days'))
  })

  it('that is older than Stripe takes comes with the oldest time that it takes', async () => {
    const there = await metered('old', { starts_on: '2026-01-01' })
    await use('old', { ts: new Date(clockMs - 60 * DAY_MS).toISOString() })
    await use('old', { ts: new Date(clockMs - 50 * DAY_MS).toISOString() })
    await count()
    await perform()
    const told = toldTo(there, 'tt_tokens')
    expect(told).toMatchObject([{ value: '2200' }])
    expect(Math.abs((told[0]?.atMs ?? 0) - (clockMs - 35 * DAY_MS))).toBeLessThan(2 * HOUR_MS)
    const { json } = await call(service, '/api/v1/billing-systems/stripe/meters?customer=old&limit=2')
    expect(json).toMatchObject({
      meters: [
        { event_name: 'tt_calls', counted: '2', planned: '2', waiting_events: 0 },
        { event_name: 'tt_input', counted: '2000', planned: '2000' },
      ],
      next_cursor: expect.any(String),
    })
  })

  it('that another system invoiced is not counted', async () => {
    clockMs = Date.parse('2027-02-10T12:00:00Z')
    const there = await metered('moved', { starts_on: '2027-01-01', system: 'none' })
    await use('moved', { ts: '2027-01-20T00:00:00Z' })
    expect((await call(service, '/api/v1/invoices/close', { body: { customer_id: 'moved' } })).status).toBe(
      200,
    )
    await metered('moved', { starts_on: '2027-01-01', stripe_customer_id: there })
    await use('moved', { ts: '2027-02-02T00:00:00Z' })
    clockMs += MINUTE_MS
    await count()
    await perform()
    expect(sumOf(there, 'tt_calls')).toBe('1')
  })

  it('that was sold in dollars is converted, and waits until a rate is known', async () => {
    const there = await metered('euro', { currency: 'EUR' })
    await use('euro', { input_tokens: 3_000_001 })
    clockMs += MINUTE_MS
    expect((await count()).skipped).toEqual([
      { customer_id: 'euro', reason: 'No exchange rate from USD to EUR is known.' },
    ])
    await database.pool.query(
      "insert into fx_rate (source, currency, valid_from, units_per_eur) values ('ecb', 'USD', $1, '1.25')",
      [new Date(clockMs - DAY_MS)],
    )
    clockMs += MINUTE_MS
    expect((await count()).skipped).toEqual([])
    await perform()
    const { rows } = await database.pool.query<{ cents: string }>(
      "select floor(sum(sell_cost_usd) * 0.8 * 100)::text as cents from usage_event where customer_id = 'euro'",
    )
    expect(sumOf(there, 'tt_sold')).toBe(rows[0]?.cents)
    expect(sumOf(there, 'tt_calls')).toBe('1')
  })

  it('of a customer without an id at Stripe waits for it, and a correction that a credit note settled comes too', async () => {
    const there = await metered('named', { stripe_customer_id: null })
    const id = await use('named')
    clockMs += MINUTE_MS
    expect((await count()).skipped).toMatchObject([{ customer_id: 'named' }])
    await metered('named', { stripe_customer_id: there, starts_on: '2026-10-01' })
    await count()
    await correct(id, { void: true })
    // As a credit note leaves it.
    await database.pool.query(
      `with billed as (
         insert into invoice (organization_id, invoice_id, customer_id, number, status, usage_since, period_start,
           period_end, position, currency, profile, created_at, finalized_at)
         select id, gen_random_uuid(), 'named', 'INV-X', 'open', '2026-01-01', '2026-01-01', '2026-02-01', 1, 'USD',
           '{"system": "stripe_meters"}', now(), now() from organization
         returning organization_id, invoice_id
       ), note as (
         insert into credit_note (organization_id, credit_note_id, invoice_id, number, reason, currency, total,
           idempotency_key, created_at)
         select organization_id, gen_random_uuid(), invoice_id, 'CN-X', 'a test', 'USD', 1, 'a test', now() from billed
         returning organization_id, credit_note_id
       )
       insert into credited_entry (organization_id, event_id, credit_note_id, line_no, amount)
       select organization_id, event_id, credit_note_id, 1, 1 from usage_event join note using (organization_id)
       where customer_id = 'named' and entry_kind = 'reversal'`,
    )
    clockMs += HOUR_MS
    await count()
    await perform()
    expect(toldTo(there, 'tt_calls').map(({ value }) => value)).toEqual(['1', '-1'])
  })

  it('is there once after an outage of days that began with an answer nobody heard', async () => {
    const there = await metered('outage')
    await use('outage')
    clockMs += HOUR_MS
    await count()
    fake.fail((operation) => (operation.endsWith('meter_events') ? 'timeout_after_commit' : undefined))
    await perform()
    fake.fail(() => 'outage')
    for (let hour = 0; hour < 40; hour += 4) {
      clockMs += 4 * HOUR_MS
      await perform()
    }
    fake.forgetKeys()
    await settle()
    expect(stripeSums(there)).toEqual(await ledgerOf('outage'))
    expect(toldTo(there, 'tt_calls')).toHaveLength(1)
  })
})

describe('whatever happens', () => {
  const action = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constant('use' as const),
        customer: fc.nat(2),
        agoHours: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 24 * 25 })),
        model: fc.constantFrom('gpt-4o-mini', 'gpt-4o', 'own'),
        input_tokens: fc.integer({ min: 0, max: 90_000 }),
        output_tokens: fc.integer({ min: 0, max: 9_000 }),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('correct' as const),
        event: fc.nat(),
        change: fc.constantFrom<object>(
          { void: true },
          { set: { input_tokens: 3 } },
          { set: { customer_id: 'next' } },
        ),
      }),
    },
    { weight: 3, arbitrary: fc.constant({ kind: 'count' as const }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'count twice' as const }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('perform' as const), seed: fc.nat() }) },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant('kill' as const), hasCalled: fc.boolean() }),
    },
    { weight: 1, arbitrary: fc.constant({ kind: 'price' as const }) },
  )
  const FAULTS: readonly (Fault | undefined)[] = [
    ...(['timeout_after_commit', 'error', 'error_after_commit', 'rate_limit', 'outage', 'conflict'] as const),
    ...Array.from({ length: 9 }, () => undefined),
  ]
  let run = 0

  it('meters come to the ledger and to the invoice, day by day', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(action, { minLength: 25, maxLength: 45 }), async (actions) => {
        run += 1
        // Each run has a month of its own, in which nothing becomes too old.
        clockMs = Date.UTC(2027, 3 + run, 1)
        const customers = [0, 1, 2].map((index) => `run${run}-${index}`)
        const atStripe: string[] = []
        for (const customer of customers)
          atStripe.push(await metered(customer, { starts_on: now().toISOString().slice(0, 10) }))
        const startMs = Date.UTC(2027, 3 + run, 1)
        const corrected = new Set<string>()
        const events: string[] = []
        for (const one of actions) {
          clockMs += 11 * HOUR_MS + 7 * MINUTE_MS
          if (one.kind === 'use') {
            const { kind: _kind, customer, agoHours, model, ...tokens } = one
            events.push(
              await use(customers[customer] ?? '', {
                ...tokens,
                ts: new Date(Math.max(startMs, clockMs - agoHours * HOUR_MS)).toISOString(),
                provider: model === 'own' ? 'own' : 'openai',
                model: model === 'own' ? `own-${run}` : model,
              }),
            )
          } else if (one.kind === 'correct') {
            const id = events[one.event % Math.max(1, events.length)]
            if (id === undefined || corrected.has(id)) continue
            corrected.add(id)
            const set = 'set' in one.change && JSON.stringify(one.change).includes('next')
            await correct(id, set ? { set: { customer_id: customers[0] } } : one.change)
          } else if (one.kind === 'count') await count()
          else if (one.kind === 'count twice') await Promise.all([count(), count()])
          else if (one.kind === 'price') {
            const rates = {
              input_tokens: { price: '1.234567', per: 1_000_000 },
              output_tokens: { price: '3', per: 1_000_000 },
            }
            await call(service, '/api/v1/prices', { body: { provider: 'own', model: `own-${run}`, rates } })
            await rateLate(database.pool, await (await createRatingBookCache(database.pool)).refresh(), now)
          } else if (one.kind === 'perform') {
            let calls = one.seed
            fake.fail((operation) => {
              calls += 7
              return operation.startsWith('POST') ? FAULTS[calls % FAULTS.length] : undefined
            })
            await perform()
            fake.fail(undefined)
          } else await die(one.hasCalled)
        }
        clockMs = Math.max(clockMs, Date.UTC(2027, 4 + run, 1)) + HOUR_MS
        await count()
        await settle()
        for (const [index, customer] of customers.entries()) {
          const there = atStripe[index] ?? ''
          expect(stripeSums(there)).toEqual(await ledgerOf(customer))
          expect(tokensByDay(there)).toEqual(await ledgerByDay(customer))
          expect(await invoiced(customer)).toEqual(
            ['tt_input', 'tt_output'].map((name) => sumOf(there, name)),
          )
        }
      }),
      { numRuns: RUNS, endOnFailure: true },
    )
  }, 300_000)

  /** A worker that dies, before or after its call. */
  async function die(hasCalled: boolean): Promise<void> {
    const step = await claimStep(database.pool, 'stripe', now(), 3 * MINUTE_MS)
    if (step === undefined || !hasCalled) return
    await stripe().perform(step, {
      ...step,
      settings: {},
      secrets: { api_key: 'sk_test_fake' },
      at: now(),
      attempt: step.attempts,
      earlier: {},
    })
  }

  function tokensByDay(there: string): Record<string, string> {
    const byDay = Map.groupBy(toldTo(there, 'tt_tokens'), ({ atMs }) =>
      new Date(atMs).toISOString().slice(0, 10),
    )
    return Object.fromEntries(
      [...byDay]
        .map(([day, told]) => [day, sum(told.map(({ value }) => value))])
        .filter(([, value]) => value !== '0'),
    )
  }

  async function ledgerByDay(customer: string): Promise<Record<string, string>> {
    const { rows } = await database.pool.query<{ day: string; tokens: string }>(
      `select (ts at time zone 'UTC')::date::text as day,
         sum(case entry_kind when 'reversal' then -1 else 1 end * (input_tokens + output_tokens))::text as tokens
       from usage_event where customer_id = $1 group by day`,
      [customer],
    )
    return Object.fromEntries(
      rows.filter(({ tokens }) => tokens !== '0').map(({ day, tokens }) => [day, tokens]),
    )
  }

  /** Quantities of the month's invoice, by meter. */
  async function invoiced(customer: string): Promise<readonly string[]> {
    await call(service, '/api/v1/invoices/close', { body: { customer_id: customer } })
    const { rows } = await database.pool.query<{ meter: string; quantity: string }>(
      `select line.keys ->> 'meter' as meter, sum(line.quantity)::text as quantity
       from invoice join invoice_line as line using (organization_id, invoice_id, revision)
       where customer_id = $1 and line.kind = 'usage' group by meter`,
      [customer],
    )
    const byMeter = new Map(rows.map(({ meter, quantity }) => [meter, quantity]))
    return ['input_tokens', 'output_tokens'].map((meter) => byMeter.get(meter) ?? '0')
  }
})

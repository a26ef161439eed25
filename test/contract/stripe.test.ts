import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { withDryRun } from '../../apps/server/src/billing-systems/dry-run.ts'
import { handOver } from '../../apps/server/src/billing-systems/outbox/hand-over.ts'
import { deliveriesOf } from '../../apps/server/src/billing-systems/outbox/outbox-reads.ts'
import { performSteps } from '../../apps/server/src/billing-systems/outbox/perform-steps.ts'
import { createStripeClients } from '../../apps/server/src/billing-systems/stripe/client.ts'
import { createStripe } from '../../apps/server/src/billing-systems/stripe/index.ts'
import { createMetrics } from '../../apps/server/src/telemetry/metrics.ts'
import { type FakeStripe, startFakeStripe } from '../fake-stripe/index.ts'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import { call, pathsOf, problemOf } from './api-client.ts'
import { insertOpenInvoice } from './invoices.ts'

/** Stripe: what arrives there, what becomes of its refusals, and what a comparison finds. */

const HOUR_MS = 3_600_000
let clockMs = Date.parse('2026-11-02T00:00:00Z')
const now = () => new Date(clockMs)

let database: TestDatabase
let service: TestService
let fake: FakeStripe
let organizationId: string
let directory: string
beforeAll(async () => {
  database = await createTestDatabase()
  directory = await mkdtemp(join(tmpdir(), 'tokentally-stripe-'))
  fake = await startFakeStripe({ now })
  service = await startService({
    databaseUrl: database.url,
    roles: 'api',
    now,
    environment: { TOKENTALLY_STRIPE_URL: fake.url },
  })
  const { rows } = await database.pool.query<{ id: string }>('select id from organization')
  organizationId = rows[0]?.id ?? ''
})
afterAll(async () => {
  await service.stop()
  await fake.stop()
  await database.drop()
  await rm(directory, { recursive: true })
})
beforeEach(async () => {
  clockMs += 40 * 24 * HOUR_MS
  fake.fail(undefined)
  await database.pool.query('delete from outbox_step')
  await setUp({})
})

const URL_OF_SETTINGS = '/api/v1/billing-systems/stripe'
async function setUp(settings: object): Promise<void> {
  const body = { settings, secrets: { api_key: 'sk_test_fake' } }
  expect((await call(service, URL_OF_SETTINGS, { method: 'PUT', body })).status).toBe(200)
}

async function run(): Promise<void> {
  const dependencies = {
    pool: database.pool,
    systems: [withDryRun(createStripe(createStripeClients({ url: fake.url, timeoutMs: 300 })), directory)],
    secretKey: Buffer.alloc(32, 7),
    now,
    random: () => 0.5,
    logger: { warn: () => undefined, error: () => undefined },
    metrics: createMetrics(),
  }
  await handOver(dependencies)
  await performSteps(dependencies)
}

async function invoice(
  amounts: readonly string[] = ['10.00', '2.50'],
  { customer = fake.objects.createCustomer({}).id, currency = 'USD' } = {},
): Promise<string> {
  return insertOpenInvoice(database.pool, {
    organizationId,
    customer: randomUUID(),
    currency,
    amounts,
    profile: { system: 'stripe_invoices', stripe_customer_id: customer },
    now: now(),
  })
}

const deliveryOf = async (id: string) =>
  (await deliveriesOf(database.pool, organizationId, [id])).get(id)?.[0]
const atStripe = (id: string) =>
  [...fake.objects.invoices.values()].filter((one) => JSON.stringify(one['metadata']).includes(id))
const only = (id: string) => {
  const [found, ...others] = atStripe(id)
  expect(others).toEqual([])
  if (found === undefined) throw new Error('Stripe has no such invoice.')
  return found
}
const amountsOf = (stripeId: string) => fake.objects.itemsOf(stripeId).map((item) => item['amount'])

describe('an invoice', () => {
  it('arrives line by line, in the smallest unit, names ours, and is finalized and sent', async () => {
    const id = await invoice(['10.00', '-0.75', '2.50'])
    await run()
    const there = only(id)
    expect(there).toMatchObject({
      status: 'open',
      currency: 'usd',
      total: 1175,
      collection_method: 'send_invoice',
      days_until_due: 30,
      auto_advance: false,
      metadata: { tokentally_invoice_id: id, tokentally_organization: organizationId },
    })
    const items = fake.objects.itemsOf(there.id)
    expect(items.map((item) => [item['amount'], item['description'], item['metadata']])).toMatchObject([
      [1000, 'model-1', { tokentally_line: '1' }],
      [-75, 'model-2', { tokentally_line: '2' }],
      [250, 'model-3', { tokentally_line: '3' }],
    ])
    expect(items[0]?.['period']).toEqual({
      start: Date.parse('2026-10-01T00:00:00Z') / 1000,
      end: Date.parse('2026-11-01T00:00:00Z') / 1000,
    })
    expect(fake.objects.events.map(({ type }) => type)).toContain('invoice.sent')
    expect(await deliveryOf(id)).toMatchObject({ status: 'done' })
    expect(new Set(fake.requests.map(({ version }) => version))).toEqual(new Set(['2026-10-28.endive']))
  })

  it('of a currency without fraction, or counted otherwise there, comes to the same', async () => {
    for (const [currency, amounts, units] of [
      ['JPY', ['500'], [500]],
      ['ISK', ['500'], [50_000]],
      ['KWD', ['5.12'], [5_120]],
    ] as const) {
      const id = await invoice(amounts, { currency })
      await run()
      expect(amountsOf(only(id).id)).toEqual(units)
    }
  })

  it('of more lines than Stripe allows has its last ones together', async () => {
    const id = await invoice(Array.from({ length: 300 }, () => '1.00'))
    for (let index = 0; index < 3; index += 1) await run()
    const there = only(id)
    expect(amountsOf(there.id)).toHaveLength(250)
    expect([there['total'], amountsOf(there.id).at(-1)]).toEqual([30_000, 5_100])
    expect(await compare()).toEqual([])
  })

  it('that costs nothing is paid at once, and nobody is sent it', async () => {
    const id = await invoice(['1.00', '-1.00'])
    const sent = () => fake.requests.filter(({ operation }) => operation.endsWith('/send')).length
    const before = sent()
    await run()
    expect([only(id)['status'], sent()]).toEqual(['paid', before])
    expect(await deliveryOf(id)).toMatchObject({ status: 'done' })
    // Here it may be voided, to be issued anew; there it stays.
    await database.pool.query("update invoice set status = 'void', voided_at = $2 where invoice_id = $1", [
      id,
      now(),
    ])
    await run()
    expect([only(id)['status'], (await deliveryOf(id))?.status]).toEqual(['paid', 'done'])
    expect(await compare()).toEqual([])
  })

  it('is charged instead of sent, with tax, when the settings say so', async () => {
    await setUp({ collection_method: 'charge_automatically', automatic_tax: true })
    const id = await invoice()
    await run()
    expect(only(id)).toMatchObject({
      status: 'open',
      collection_method: 'charge_automatically',
      automatic_tax: { enabled: true },
    })
    const finalized = fake.requests.find(
      ({ operation, id: of }) => operation.endsWith('/finalize') && of === only(id).id,
    )
    expect(finalized?.form).toEqual({ auto_advance: 'true' })
  })

  it('that is voided here is voided there', async () => {
    const id = await invoice()
    await run()
    await database.pool.query("update invoice set status = 'void', voided_at = $2 where invoice_id = $1", [
      id,
      now(),
    ])
    await run()
    expect(only(id)['status']).toBe('void')
  })
})

describe('what goes wrong', () => {
  it('an outage of more than a day, after a success nobody heard of, doubles nothing', async () => {
    const operations = ['POST /v1/invoices', 'POST /v1/invoiceitems']
    for (const broken of operations) {
      const id = await invoice()
      fake.fail((operation) => (operation === broken ? 'timeout_after_commit' : undefined))
      await run()
      fake.fail(() => 'outage')
      for (let hour = 0; hour < 26; hour += 1) {
        clockMs += HOUR_MS
        await run()
      }
      expect(await deliveryOf(id)).toMatchObject({ status: 'waiting' })
      fake.forgetKeys()
      fake.fail(undefined)
      clockMs += 2 * HOUR_MS
      await run()
      expect([only(id)['status'], amountsOf(only(id).id)]).toEqual(['open', [1000, 250]])
    }
  })

  it('a failure that Stripe keeps under the key is got over, done or not', async () => {
    for (const fault of ['error', 'error_after_commit'] as const) {
      let isFirst = true
      fake.fail((operation) => {
        const isHit = isFirst && operation === 'POST /v1/invoices'
        if (isHit) isFirst = false
        return isHit ? fault : undefined
      })
      const id = await invoice()
      await run()
      expect(await deliveryOf(id)).toMatchObject({ status: 'waiting', lastError: 'Stripe failed (500).' })
      clockMs += 10_000
      await run()
      expect(only(id)['status']).toBe('open')
    }
  })

  it('a conflict and a limit wait and go on with the same key', async () => {
    const faults = ['conflict', 'rate_limit'] as const
    let index = 0
    fake.fail(() => faults[index++])
    const id = await invoice()
    const before = fake.requests.length
    for (let attempt = 0; attempt < 3; attempt += 1) {
      await run()
      clockMs += 60_000
    }
    const keys = fake.requests.slice(before, before + 3).map(({ idempotencyKey }) => idempotencyKey)
    expect(new Set(keys).size).toBe(1)
    expect(only(id)['status']).toBe('open')
  })

  it('a deleted customer is refused with the reason, and the others go on', async () => {
    const { id: gone } = fake.objects.createCustomer({})
    fake.objects.deleteCustomer(gone)
    const [refused, fine] = [await invoice(['1.00'], { customer: gone }), await invoice()]
    await run()
    const delivery = await deliveryOf(refused)
    expect(delivery).toMatchObject({ status: 'refused' })
    expect(delivery?.lastError).toContain(`No such customer: '${gone}'`)
    expect(only(fine)['status']).toBe('open')
    // The customer is there again, and a person says so.
    fake.objects.createCustomer({}, gone)
    await call(service, '/api/v1/outbox/retry', { body: { stream: `invoice:${refused}` } })
    await run()
    expect(only(refused)['status']).toBe('open')
  })

  it('a wrong key is shown, not repeated often, and costs nothing once it is right', async () => {
    fake.fail(() => 'unauthorized')
    const id = await invoice()
    await run()
    clockMs += 60_000
    const before = fake.requests.length
    await run()
    expect(fake.requests).toHaveLength(before)
    expect((await deliveryOf(id))?.lastError).toBe('Stripe does not accept the api_key; set another one.')
    fake.fail(undefined)
    clockMs += 5 * 60_000
    await run()
    expect(only(id)['status']).toBe('open')
  })

  it('a draft that somebody changed at Stripe is not sent to the customer', async () => {
    const id = await invoice()
    fake.fail((operation) => {
      if (operation !== 'GET /v1/invoices/:id') return undefined
      const there = only(id)
      if (fake.objects.itemsOf(there.id).length === 2) {
        const { customer = '', currency = '' } = there
        fake.objects.createInvoiceItem({
          customer: String(customer),
          currency: String(currency),
          invoice: there.id,
          amount: 1,
        })
      }
      return undefined
    })
    await run()
    expect(only(id)['status']).toBe('draft')
    expect((await deliveryOf(id))?.lastError).toContain('comes to 1251, here to 1250')
  })
})

const reconciliationSchema = z.object({
  checked: z.number(),
  differences: z.array(z.looseObject({ kind: z.string(), line: z.string().nullable(), cause: z.string() })),
})
async function compareAll() {
  const answer = await call(
    service,
    `/api/v1/billing-systems/stripe/reconciliation?to=${new Date(clockMs + 1000).toISOString()}`,
  )
  expect([answer.status, answer.text]).toEqual([200, expect.any(String)])
  return reconciliationSchema.parse(answer.json)
}
async function compare(): Promise<readonly (readonly [string, string | null])[]> {
  return (await compareAll()).differences.map(({ kind, line }) => [kind, line])
}

describe('the comparison', () => {
  it('finds nothing where nothing differs, and each planted difference', async () => {
    const ids = [await invoice(), await invoice(), await invoice(), await invoice()]
    await run()
    expect(await compare()).toEqual([])

    const [changed = '', deleted = '', paid = '', doubled = ''] = ids
    const [first, second] = fake.objects.itemsOf(only(changed).id)
    if (first !== undefined) first['amount'] = 999
    if (second !== undefined) second['metadata'] = {}
    only(changed)['subtotal'] = 1249
    fake.objects.invoices.delete(only(deleted).id)
    fake.objects.pay(only(paid).id)
    const copy = { ...only(doubled), id: 'in_copy' }
    fake.objects.invoices.set(copy.id, copy)
    const stranger = structuredClone(only(paid))
    fake.objects.invoices.set('in_stranger', {
      ...stranger,
      id: 'in_stranger',
      metadata: { tokentally_invoice_id: randomUUID(), tokentally_organization: organizationId },
    })
    const found = await compare()
    expect(found.toSorted((a, b) => a[0].localeCompare(b[0]))).toEqual([
      ['doubled_at_stripe', null],
      ['line_amount', '1'],
      ['line_missing_at_stripe', '2'],
      ['line_unknown_here', null],
      ['missing_at_stripe', null],
      ['status', null],
      ['total', null],
      ['unknown_here', null],
    ])
  })

  it('leaves out what a dry run handed over, and what is told of it later is dry too', async () => {
    await setUp({ dry_run: true })
    const id = await invoice()
    await run()
    await setUp({})
    await database.pool.query("update invoice set status = 'void', voided_at = $2 where invoice_id = $1", [
      id,
      now(),
    ])
    const [other, calls] = [await invoice(), fake.requests.length]
    await run()
    expect([await deliveryOf(id), atStripe(id)]).toMatchObject([{ status: 'done' }, []])
    expect(fake.requests.slice(calls).map(({ operation }) => operation)).not.toContain(
      'POST /v1/invoices/:id/void',
    )
    expect(await compareAll()).toEqual({ checked: 1, differences: [] })
    expect(only(other)['status']).toBe('open')
  })

  it('says that Stripe cannot be reached', async () => {
    fake.fail(() => 'outage')
    const problem = problemOf(await call(service, `${URL_OF_SETTINGS}/reconciliation`), 503)
    expect(problem.detail).toContain('cannot be reached')
  })
})

describe('the settings', () => {
  it('are checked, completed, and never show a secret', async () => {
    const wrong = { settings: { collection_method: 'cash', more: 1 }, secrets: { pin: '1' } }
    const problem = problemOf(await call(service, URL_OF_SETTINGS, { method: 'PUT', body: wrong }), 400)
    expect(pathsOf(problem)).toEqual(expect.arrayContaining(['settings.collection_method', 'secrets.pin']))
    const shown = await call(service, URL_OF_SETTINGS)
    expect(shown.json).toMatchObject({
      system: 'stripe',
      enabled: true,
      settings: { collection_method: 'send_invoice', send: true, automatic_tax: false, dry_run: false },
      secrets: { api_key: true, webhook_secret: false },
    })
    expect(shown.text).not.toContain('sk_test')
    const { rows } = await database.pool.query('select * from billing_system_settings')
    expect(JSON.stringify(rows)).not.toContain('sk_test')
  })

  it('keep secrets that are left out, and go with them when they are deleted', async () => {
    await call(service, URL_OF_SETTINGS, { method: 'PUT', body: { enabled: false } })
    expect((await call(service, URL_OF_SETTINGS)).json).toMatchObject({
      enabled: false,
      secrets: { api_key: true },
    })
    expect((await call(service, URL_OF_SETTINGS, { method: 'DELETE' })).status).toBe(204)
    problemOf(await call(service, URL_OF_SETTINGS), 404)
    problemOf(await call(service, '/api/v1/billing-systems/nobody'), 404)
  })
})

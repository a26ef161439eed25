import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import type {
  BillingSystem,
  StepContext,
  StepOutcome,
} from '../../apps/server/src/billing-systems/billing-system.ts'
import { handOver } from '../../apps/server/src/billing-systems/outbox/hand-over.ts'
import { deliveriesOf } from '../../apps/server/src/billing-systems/outbox/outbox-reads.ts'
import { claimStep } from '../../apps/server/src/billing-systems/outbox/outbox-store.ts'
import { performSteps } from '../../apps/server/src/billing-systems/outbox/perform-steps.ts'
import { putSettings } from '../../apps/server/src/billing-systems/settings-store.ts'
import { createMetrics } from '../../apps/server/src/telemetry/metrics.ts'
import {
  createTestDatabase,
  startService,
  type TestDatabase,
  type TestService,
  waitFor,
} from '../harness/index.ts'
import { call, problemOf } from './api-client.ts'
import { insertOpenInvoice } from './invoices.ts'

/** The outbox: what is told of invoices, in which order, how often, and what is seen of it. */

const SECRET_KEY = Buffer.alloc(32, 7)
const START_MS = Date.parse('2026-11-02T00:00:00Z')
let clockMs = START_MS
const now = () => new Date(clockMs)

let database: TestDatabase
let service: TestService
let organizationId: string
beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url, roles: 'api', now })
  const { rows } = await database.pool.query<{ id: string }>('select id from organization')
  organizationId = rows[0]?.id ?? ''
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})

interface Told {
  readonly action: string
  readonly context: StepContext
}
let told: Told[]
let answer: (action: string, context: StepContext) => StepOutcome | Promise<StepOutcome>
beforeEach(async () => {
  told = []
  answer = (action) => ({ kind: 'done', result: { id: `id of ${action}` } })
  clockMs = START_MS
  await database.pool.query('delete from outbox_step')
  await database.pool.query('delete from billing_system_settings')
  await database.pool.query('update invoice set handed_over_at = now(), void_handed_over_at = now()')
  for (const system of ['stripe', 'books']) await enable(system)
})

function system(name: string, reach: BillingSystem['reach']): BillingSystem {
  const step = (action: string, payload: Record<string, string>) => ({ action, payload })
  return {
    name,
    reach,
    profileSystems: ['stripe_invoices'],
    settingsSchema: z.record(z.string(), z.json()),
    secretNames: [],
    invoiceSteps: ({ invoice, lines }) => [
      step('create', { number: invoice.number ?? '' }),
      ...lines.map(({ lineNo, amount }) => step(`line:${lineNo}`, { amount })),
      step('finalize', {}),
    ],
    creditNoteSteps: ({ number, total }) => [step('credit', { number, total })],
    voidSteps: () => [step('void', {})],
    perform: async ({ action }, context) => {
      told.push({ action, context })
      return answer(action, context)
    },
  }
}
const stripe = system('stripe', 'customer')
const books = system('books', 'every')

function enable(name: string, isEnabled = true): Promise<void> {
  return putSettings(database.pool, {
    organizationId,
    system: name,
    isEnabled,
    settings: {},
    sealedSecrets: {},
    updatedAt: now(),
  })
}

function dependencies(systems: readonly BillingSystem[] = [stripe]) {
  return {
    pool: database.pool,
    systems,
    secretKey: SECRET_KEY,
    now,
    random: () => 0.5,
    logger: { warn: () => undefined, error: () => undefined },
    metrics: createMetrics(),
  }
}
const runAll = async (systems?: readonly BillingSystem[]) => {
  await handOver(dependencies(systems))
  await performSteps(dependencies(systems))
}
const invoice = (amounts = ['1.00', '2.50'], profileSystem: 'none' | 'stripe_invoices' = 'stripe_invoices') =>
  insertOpenInvoice(database.pool, {
    organizationId,
    customer: randomUUID(),
    amounts,
    profile: { system: profileSystem },
    now: now(),
  })
async function credit(invoiceId: string): Promise<string> {
  const id = randomUUID()
  await database.pool.query(
    `insert into credit_note (organization_id, credit_note_id, invoice_id, number, reason, currency, total, api_key_id,
       idempotency_key, created_at)
     values ($1, $2::uuid, $3, $2::uuid::text, 'wrong', 'USD', 2, gen_random_uuid(), $2::uuid::text, $4)`,
    [organizationId, id, invoiceId, now()],
  )
  return id
}
async function voidInvoice(id: string): Promise<void> {
  const sql = "update invoice set status = 'void', voided_at = $2 where invoice_id = $1"
  await database.pool.query(sql, [id, now()])
}
const actions = () => told.map(({ action }) => action)

describe('handing over', () => {
  it('tells the system of the profile, and those that get every invoice, each once', async () => {
    const first = await invoice()
    const second = await invoice(['3'], 'none')
    await runAll([stripe, books])
    await runAll([stripe, books])
    const deliveries = await deliveriesOf(database.pool, organizationId, [first, second])
    expect(deliveries.get(first)?.map(({ system, status }) => [system, status])).toEqual([
      ['books', 'done'],
      ['stripe', 'done'],
    ])
    expect(deliveries.get(second)?.map(({ system }) => system)).toEqual(['books'])
    expect(told).toHaveLength(4 + 4 + 3)
    expect(new Set(told.map(({ context }) => context.idempotencyKey)).size).toBe(11)
  })

  it('by several workers at once writes the steps once', async () => {
    const ids = await Promise.all(Array.from({ length: 5 }, () => invoice()))
    await Promise.all(Array.from({ length: 4 }, () => handOver(dependencies())))
    const { rows } = await database.pool.query<{ n: number }>('select count(*)::int as n from outbox_step')
    expect(rows[0]?.n).toBe(ids.length * 4)
  })

  it('says that a system which the profile names is not set up, tells the others, and goes on when it is', async () => {
    await database.pool.query("delete from billing_system_settings where system = 'stripe'")
    const id = await invoice(['5'])
    await runAll([stripe, books])
    const noteId = await credit(id)
    await runAll([stripe, books])
    expect(actions()).toEqual(['create', 'line:1', 'finalize', 'credit'])
    const reason = 'Stripe is not set up: PUT /api/v1/billing-systems/stripe'
    expect((await call(service, `/api/v1/invoices/${id}`)).json).toMatchObject({
      delivery: [
        { system: 'books', status: 'done' },
        { system: 'stripe', status: 'waiting', last_error: reason, next_attempt_at: null },
      ],
    })
    await enable('stripe', false)
    await runAll([stripe, books])
    expect(told).toHaveLength(4)
    await enable('stripe')
    await Promise.all([handOver(dependencies()), handOver(dependencies())])
    await performSteps(dependencies())
    expect(actions().slice(4)).toEqual(['create', 'line:1', 'finalize', 'credit'])
    expect(told[7]?.context.idempotencyKey).toContain(noteId)
    expect(told[7]?.context.earlier['create']).toEqual({ id: 'id of create' })
    expect((await deliveriesOf(database.pool, organizationId, [id])).get(id)).toMatchObject([
      { status: 'done' },
      { status: 'done' },
    ])
  })

  it('tells a system that is not set up nothing of what was voided meanwhile', async () => {
    await enable('stripe', false)
    const id = await invoice()
    await runAll()
    await voidInvoice(id)
    await runAll()
    await enable('stripe')
    await runAll()
    expect(told).toEqual([])
    expect((await deliveriesOf(database.pool, organizationId, [id])).get(id)).toMatchObject([
      { status: 'done', lastError: null },
    ])
  })

  it('tells of credit notes and of voiding after the invoice, with its results', async () => {
    const id = await invoice(['5'])
    await runAll()
    await credit(id)
    await runAll()
    await voidInvoice(id)
    await runAll()
    await runAll()
    expect(actions()).toEqual(['create', 'line:1', 'finalize', 'credit', 'void'])
    expect(told[4]?.context.earlier['create']).toEqual({ id: 'id of create' })
  })

  it('tells nobody of an invoice that was voided before anybody heard of it', async () => {
    await voidInvoice(await invoice())
    await runAll()
    expect(told).toEqual([])
  })
})

describe('steps', () => {
  it('are done in order, with the results of those before', async () => {
    await invoice()
    await runAll()
    expect(actions()).toEqual(['create', 'line:1', 'line:2', 'finalize'])
    expect(Object.keys(told[3]?.context.earlier ?? {})).toEqual(['create', 'line:1', 'line:2'])
  })

  it('that fail are tried again with the same key, later each time and not before they may', async () => {
    await invoice()
    answer = () => ({ kind: 'retry', reason: 'away' })
    await runAll()
    clockMs += 999
    await runAll()
    expect(told).toHaveLength(1)
    clockMs += 1
    answer = () => ({ kind: 'retry', reason: 'slow down', retryAfterMs: 60_000 })
    await runAll()
    clockMs += 59_999
    await runAll()
    expect(told).toHaveLength(2)
    clockMs += 1
    answer = () => ({ kind: 'done', result: {} })
    await runAll()
    expect(actions()).toEqual(['create', 'create', 'create', 'line:1', 'line:2', 'finalize'])
    expect(new Set(told.slice(0, 3).map(({ context }) => context.idempotencyKey)).size).toBe(1)
    expect(told[2]?.context).toMatchObject({ attempt: 3, keyGeneration: 0, keySince: new Date(START_MS) })
  })

  it('whose key is used up get another one', async () => {
    await invoice()
    answer = () => ({ kind: 'retry', reason: '500', isKeySettled: true })
    await runAll()
    clockMs += 5_000
    await runAll()
    expect(told.map(({ context }) => context.keyGeneration)).toEqual([0, 1])
    expect(told[1]?.context.keySince).toEqual(now())
    expect(told[0]?.context.idempotencyKey).not.toBe(told[1]?.context.idempotencyKey)
  })

  it('that throw are tried again, and say nothing of what was thrown', async () => {
    const id = await invoice()
    answer = () => {
      throw new Error('sk_live_secret')
    }
    await runAll()
    const [delivery] = (await deliveriesOf(database.pool, organizationId, [id])).get(id) ?? []
    expect(delivery).toMatchObject({ status: 'waiting', attempts: 1 })
    expect(delivery?.lastError).not.toContain('secret')
  })

  it('of a worker that died are taken over when its lease ends, and its late word counts for nothing', async () => {
    await invoice()
    await handOver(dependencies())
    expect(await claimStep(database.pool, 'stripe', now(), 60_000)).toMatchObject({ action: 'create' })
    clockMs += 59_999
    await performSteps(dependencies())
    expect(told).toEqual([])
    clockMs += 1
    await performSteps(dependencies())
    expect(told[0]?.context.attempt).toBe(2)
    expect(actions()).toEqual(['create', 'line:1', 'line:2', 'finalize'])
  })

  it('by many workers at once are each done once', async () => {
    await Promise.all(Array.from({ length: 10 }, () => invoice(['1', '2', '3'])))
    await handOver(dependencies())
    await Promise.all(Array.from({ length: 4 }, () => performSteps(dependencies())))
    await performSteps(dependencies())
    expect(told).toHaveLength(50)
    expect(new Set(told.map(({ context }) => context.idempotencyKey)).size).toBe(50)
  })
})

const stepsSchema = z.object({
  steps: z.array(
    z.looseObject({ action: z.string(), status: z.string(), last_error: z.string().nullable() }),
  ),
  next_cursor: z.string().nullable(),
})

describe('a refusal', () => {
  it('stops its stream alone, is shown, and is tried again when a person says so', async () => {
    const [refused, fine] = [await invoice(), await invoice(['7'])]
    answer = (_action, { earlier, idempotencyKey }) =>
      idempotencyKey.includes(refused) && earlier['create'] !== undefined
        ? { kind: 'refused', reason: 'No such customer' }
        : { kind: 'done', result: {} }
    await runAll()
    await runAll()
    const deliveries = await deliveriesOf(database.pool, organizationId, [refused, fine])
    expect(deliveries.get(fine)).toMatchObject([{ status: 'done' }])
    expect(deliveries.get(refused)).toEqual([
      {
        system: 'stripe',
        status: 'refused',
        attempts: 1,
        lastError: 'No such customer',
        nextAttemptAt: null,
      },
    ])
    const listed = stepsSchema.parse((await call(service, '/api/v1/outbox?status=refused')).json)
    expect(listed.steps.map(({ action, last_error }) => [action, last_error])).toEqual([
      ['line:1', 'No such customer'],
    ])
    answer = () => ({ kind: 'done', result: {} })
    const retried = await call(service, '/api/v1/outbox/retry', { body: { stream: `invoice:${refused}` } })
    expect([retried.status, retried.json]).toEqual([200, { retried: 1 }])
    await runAll()
    expect((await deliveriesOf(database.pool, organizationId, [refused])).get(refused)).toMatchObject([
      { status: 'done' },
    ])
    expect(actions().filter((action) => action === 'create')).toHaveLength(2)
  })

  it('does not hold up the voiding: what was begun is taken back, and of what was not nobody hears again', async () => {
    const [begun, unknown] = [await invoice(), await invoice(['7'])]
    answer = (action, { idempotencyKey }) =>
      action === 'void' || (idempotencyKey.includes(begun) && action === 'create')
        ? { kind: 'done', result: {} }
        : { kind: 'refused', reason: 'No such customer' }
    await runAll()
    await voidInvoice(begun)
    await voidInvoice(unknown)
    await runAll()
    await runAll()
    expect(actions().toSorted()).toEqual(['create', 'create', 'line:1', 'void'])
    const deliveries = await deliveriesOf(database.pool, organizationId, [begun, unknown])
    for (const id of [begun, unknown]) {
      expect(deliveries.get(id)).toMatchObject([{ status: 'done', lastError: null }])
    }
    const last = told.find(({ action }) => action === 'void')
    expect(Object.keys(last?.context.earlier ?? {})).toEqual(['create'])
  })

  it('of a stream that is not there is a 404', async () => {
    const body = { stream: 'invoice:none' }
    problemOf(await call(service, '/api/v1/outbox/retry', { body }), 404)
  })
})

it('GET /api/v1/outbox pages through all steps', async () => {
  await invoice(['1', '2', '3'])
  await handOver(dependencies())
  const seen: string[] = []
  let cursor: string | null = ''
  while (cursor !== null) {
    const query = cursor === '' ? '' : `&cursor=${cursor}`
    const page = stepsSchema.parse((await call(service, `/api/v1/outbox?limit=2${query}`)).json)
    seen.push(...page.steps.map(({ action }) => action))
    cursor = page.next_cursor
  }
  expect(seen).toEqual(['create', 'line:1', 'line:2', 'line:3', 'finalize'])
})

it('what is to be told is announced when a credit note is issued, and not by a preview', async () => {
  // The service under test has no workers: what is announced stays in its queue.
  const announced = async () => {
    const { rows } = await database.pool.query("select from bullmq.job where name = 'hand-over-invoices'")
    return rows.length
  }
  // Makes the queue's tables.
  expect((await call(service, '/metrics')).status).toBe(200)
  const id = await invoice(['5'])
  const credit = (body: object) =>
    call(service, `/api/v1/invoices/${id}/credit-notes`, {
      body: { reason: 'goodwill', full: true, ...body },
    })
  expect((await credit({ preview: true })).status).toBe(200)
  expect(await announced()).toBe(0)
  expect((await credit({})).status).toBe(201)
  await waitFor(async () => (await announced()) === 1, 'the hand-over is announced')
})

import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import Stripe from 'stripe'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { findInvoice, paymentState } from '../../apps/server/src/invoicing/index.ts'
import { sealSecret } from '../../apps/server/src/sealed-secret.ts'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'
import { call, pathsOf, problemOf } from './api-client.ts'
import { insertFinalizedInvoice, onlyOrganization } from './invoices.ts'

/** What Stripe tells us, signed by its own library, on a clock that the tests move. */

const NOW = Date.UTC(2026, 11, 1, 12)
const SECRET = 'whsec_now'
const OLD_SECRET = 'whsec_before'
const SECRET_KEY = Buffer.alloc(32, 7)

let database: TestDatabase
let service: TestService
let organizationId = ''
let test = 0

beforeAll(async () => {
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url, roles: 'api', now: () => new Date(NOW) })
  organizationId = await onlyOrganization(database.pool)
})
afterAll(async () => {
  await service.stop()
  await database.drop()
})
beforeEach(() => {
  test++
})

const setSecret = async (owner: string, secret: string) => {
  const sealed = sealSecret(SECRET_KEY, [owner, 'billing-system', 'stripe', 'webhook_secret'], secret)
  await database.pool.query(
    `insert into billing_system_settings (organization_id, system, is_enabled, settings, sealed_secrets, updated_at)
     values ($1, 'stripe', true, '{}', $2, now())
     on conflict (organization_id, system) do update set sealed_secrets = excluded.sealed_secrets`,
    [owner, { webhook_secret: sealed.toString('base64') }],
  )
}

interface Signing {
  readonly secret?: string
  readonly atMs?: number
  readonly path?: string
  readonly header?: string | null
}

async function send(payload: string, options: Signing = {}) {
  const { secret = SECRET, atMs = NOW, path = '/webhooks/stripe' } = options
  const header =
    options.header === undefined
      ? Stripe.webhooks.generateTestHeaderString({ payload, secret, timestamp: Math.floor(atMs / 1000) })
      : options.header
  return call(service, path, {
    body: payload,
    key: null,
    headers: { ...(header !== null && { 'stripe-signature': header }) },
  })
}

let events = 0
function eventOf(type: string, object: object, at = NOW): object {
  events += 1
  return {
    ...{ id: `evt_${events}`, object: 'event', api_version: '2026-10-28.x', livemode: false },
    ...{ type, created: Math.floor(at / 1000), data: { object } },
  }
}
const outcomeOf = async (event: object, options: Signing = {}) => {
  // As Stripe prints it: the bytes are signed, not their meaning.
  const answer = await send(JSON.stringify(event, undefined, 2), options)
  expect([answer.status, answer.text]).toEqual([200, expect.any(String)])
  return z.object({ received: z.literal(true), outcome: z.string() }).parse(answer.json).outcome
}
const invoiced = (amounts: readonly string[], customer = `payer-${test}-${randomUUID()}`) =>
  insertFinalizedInvoice(database.pool, { customer, lines: amounts.map((amount) => ({ amount })) })
const stripeInvoice = (id: string, invoiceId: string | undefined, status: string, fields: object = {}) => ({
  ...{ id, object: 'invoice', status, currency: 'usd' },
  metadata: invoiceId === undefined ? {} : { tokentally_invoice_id: invoiceId },
  ...fields,
})
const stateOf = async (invoiceId: string) => {
  const invoice = await findInvoice(database.pool, organizationId, invoiceId)
  const payment = await paymentState(database.pool, organizationId, invoiceId)
  return {
    ...{
      status: invoice?.status,
      paidAt: invoice?.paidAt,
      voidedAt: invoice?.voidedAt,
      credited: invoice?.credited,
    },
    ...payment,
  }
}

describe('POST /webhooks/stripe', () => {
  it('takes nothing before a secret is set up', async () => {
    const answer = await send(JSON.stringify(eventOf('customer.created', { id: 'cus_1' })))
    expect(problemOf(answer, 400).detail).toMatch(/No webhook secret/)
    await setSecret(organizationId, SECRET)
  })

  it('refuses what is not signed, signed wrongly, changed or old', async () => {
    const payload = JSON.stringify(eventOf('customer.created', { id: 'cus_1' }))
    const detailOf = async (sent: ReturnType<typeof send>) => problemOf(await sent, 400).detail
    expect(await detailOf(send(payload, { header: null }))).toMatch(/missing/)
    expect(await detailOf(send(payload, { header: 'nonsense' }))).toMatch(/does not fit/)
    expect(await detailOf(send(payload, { secret: 'whsec_other' }))).toMatch(/does not fit/)
    expect(await detailOf(send(payload, { atMs: NOW - 301_000 }))).toMatch(/300 seconds old/)
    const header = Stripe.webhooks.generateTestHeaderString({
      payload,
      secret: SECRET,
      timestamp: Math.floor(NOW / 1000),
    })
    expect(await detailOf(send(`${payload} `, { header }))).toMatch(/does not fit/)
    expect(await detailOf(send(payload, { path: `/webhooks/stripe/${randomUUID()}` }))).toMatch(
      /No webhook secret/,
    )
    expect((await send(payload, { atMs: NOW - 299_000 })).status).toBe(200)
    problemOf(await send('{', {}), 400)
    expect(
      pathsOf(problemOf(await send('{"id": "evt_x", "type": "invoice.paid", "created": 1}'), 400)),
    ).toEqual(['data'])
    problemOf(await send(JSON.stringify({ padding: 'x'.repeat(600 * 1024) })), 413)
    const { rows } = await database.pool.query('select from stripe_event')
    expect(rows).toHaveLength(1)
  })

  it('takes several secrets while they are rotated, and each organization its own', async () => {
    await setSecret(organizationId, `${SECRET} ${OLD_SECRET}`)
    const event = () => eventOf('customer.created', { id: 'cus_1' })
    expect(await outcomeOf(event(), { secret: OLD_SECRET })).toBe('ignored')
    expect(await outcomeOf(event(), { secret: SECRET })).toBe('ignored')
    const other = randomUUID()
    await setSecret(other, 'whsec_of_another')
    expect(await outcomeOf(event(), { secret: 'whsec_of_another' })).toBe('ignored')
    const { rows } = await database.pool.query('select from stripe_event where organization_id = $1', [other])
    expect(rows).toHaveLength(1)
    const path = `/webhooks/stripe/${other}`
    expect(await outcomeOf(event(), { secret: 'whsec_of_another', path })).toBe('ignored')
    problemOf(await send(JSON.stringify(event()), { path }), 400)
  })

  it('works on an event once, also when it is sent at once', async () => {
    const id = await invoiced(['10'])
    const event = eventOf('invoice.paid', stripeInvoice('in_once', id, 'paid'))
    const outcomes = await Promise.all(Array.from({ length: 5 }, () => outcomeOf(event)))
    expect(outcomes.sort()).toEqual(['applied', 'repeated', 'repeated', 'repeated', 'repeated'])
    expect(await stateOf(id)).toMatchObject({ status: 'paid', paidAt: new Date(NOW) })
  })

  it('records what it does not know, and changes nothing', async () => {
    expect(await outcomeOf(eventOf('invoice.paid', stripeInvoice('in_x', undefined, 'paid')))).toBe('unknown')
    expect(await outcomeOf(eventOf('invoice.paid', stripeInvoice('in_x', randomUUID(), 'paid')))).toBe(
      'unknown',
    )
    expect(await outcomeOf(eventOf('invoice.paid', stripeInvoice('in_x', 'no id', 'paid')))).toBe('unknown')
    expect(await outcomeOf(eventOf('payout.paid', { id: 'po_x', status: 'paid' }))).toBe('unknown')
  })

  it('never opens again what is paid, and shows why a payment failed until it is', async () => {
    const id = await invoiced(['10'])
    const at = (minutes: number) => NOW + minutes * 60_000
    const failed = stripeInvoice('in_fails', id, 'open', { attempt_count: 2 })
    await outcomeOf(eventOf('invoice.payment_failed', failed, at(1)))
    expect(await stateOf(id)).toMatchObject({
      status: 'open',
      lastPaymentError: 'Attempt 2 to collect the payment failed.',
      lastPaymentFailedAt: new Date(at(1)),
      stripeInvoiceIds: ['in_fails'],
    })
    const payment = { invoice: 'in_fails', payment: { type: 'payment_intent', payment_intent: 'pi_fails' } }
    await outcomeOf(
      eventOf(
        'payment_intent.payment_failed',
        { id: 'pi_fails', last_payment_error: { message: 'Your card was declined.' } },
        at(2),
      ),
    )
    await outcomeOf(eventOf('invoice_payment.paid', { id: 'inpay_1', ...payment }, at(3)))
    expect(await stateOf(id)).toMatchObject({ lastPaymentError: 'Your card was declined.' })
    expect(await outcomeOf(eventOf('invoice.paid', stripeInvoice('in_fails', id, 'paid'), at(3)))).toBe(
      'applied',
    )
    expect(await outcomeOf(eventOf('invoice.finalized', stripeInvoice('in_fails', id, 'open'), at(4)))).toBe(
      'outdated',
    )
    expect(await stateOf(id)).toMatchObject({
      status: 'paid',
      lastPaymentError: null,
      paidAt: new Date(at(3)),
    })
    const dispute = { id: 'dp_1', payment_intent: 'pi_fails', charge: 'ch_1', amount: 1000, currency: 'usd' }
    const about = { reason: 'fraudulent', status: 'needs_response' }
    await outcomeOf(eventOf('charge.dispute.closed', { ...dispute, ...about, status: 'lost' }, at(9)))
    await outcomeOf(eventOf('charge.dispute.created', { ...dispute, ...about }, at(8)))
    expect(await stateOf(id)).toMatchObject({
      disputes: [{ id: 'dp_1', amount: '10', currency: 'USD', reason: 'fraudulent', status: 'lost' }],
    })
  })

  it('records a credit note of Stripe on the lines that it names, and leaves the echo of ours alone', async () => {
    const id = await invoiced(['10', '20'])
    await outcomeOf(eventOf('invoice.finalized', stripeInvoice('in_credit', id, 'open')))
    const note = (noteId: string, lines: object[], fields: object = {}) => ({
      ...{ id: noteId, object: 'credit_note', invoice: 'in_credit', status: 'issued', currency: 'usd' },
      ...{
        created: NOW / 1000,
        amount: 0,
        reason: 'duplicate',
        memo: null,
        metadata: {},
        lines: { data: lines },
      },
      ...fields,
    })
    const line = (amount: number, lineNo?: string) => ({
      amount,
      metadata: lineNo === undefined ? null : { tokentally_line_no: lineNo },
    })
    const first = note('cn_1', [line(500, '2'), line(1200)])
    expect(await outcomeOf(eventOf('credit_note.created', first))).toBe('applied')
    expect(await outcomeOf(eventOf('credit_note.updated', first))).toBe('applied')
    const list = async () => (await call(service, `/api/v1/credit-notes?invoice_id=${id}`)).json
    expect(await list()).toMatchObject({
      credit_notes: [
        {
          ...{ issued_by: 'stripe', total: '17', reason: 'duplicate', status: 'issued' },
          lines: [
            { line_no: 1, amount: '10' },
            { line_no: 2, amount: '7' },
          ],
        },
      ],
    })
    const ours = { metadata: { tokentally_credit_note_id: randomUUID() } }
    expect(await outcomeOf(eventOf('credit_note.created', note('cn_2', [line(100)], ours)))).toBe('echo')
    expect(await outcomeOf(eventOf('credit_note.created', note('cn_3', [line(5000)])))).toBe('capped')
    expect(await stateOf(id)).toMatchObject({ credited: '30' })
    expect(
      await outcomeOf(eventOf('credit_note.voided', note('cn_1', [line(500, '2')], { status: 'void' }))),
    ).toBe('applied')
    expect(await stateOf(id)).toMatchObject({ credited: '13' })
  })

  it('ends in the same state whatever the order and repetition of events', async () => {
    const at = (seconds: number) => NOW - 100_000 + seconds * 1000
    let run = 0
    const scenario = (invoiceId: string, name: string): readonly object[] => {
      const invoice = (status: string, fields: object = {}) =>
        stripeInvoice(`in_${name}`, invoiceId, status, fields)
      const dispute = (status: string) => ({
        ...{ id: `dp_${name}`, payment_intent: `pi_${name}`, charge: 'ch', amount: 1234, currency: 'usd' },
        ...{ reason: 'general', status },
      })
      const note = (id: string, lineNo: string, status: string) => ({
        ...{ id: `cn_${id}_${name}`, invoice: `in_${name}`, status, currency: 'usd', created: NOW / 1000 },
        ...{ amount: 100, reason: null, memo: 'back', metadata: {} },
        lines: { data: [{ amount: 100, metadata: { tokentally_line_no: lineNo } }] },
      })
      return [
        eventOf('invoice.finalized', invoice('open'), at(1)),
        eventOf('invoice.payment_failed', invoice('open', { attempt_count: 1 }), at(2)),
        eventOf('invoice.payment_failed', invoice('open', { attempt_count: 2 }), at(3)),
        eventOf('invoice.marked_uncollectible', invoice('uncollectible'), at(4)),
        eventOf('invoice.paid', invoice('paid'), at(5)),
        eventOf('invoice.payment_succeeded', invoice('paid'), at(5)),
        eventOf('invoice.updated', invoice('open'), at(5)),
        eventOf(
          'invoice_payment.paid',
          { invoice: `in_${name}`, payment: { payment_intent: `pi_${name}` } },
          at(5),
        ),
        eventOf('charge.dispute.created', dispute('needs_response'), at(6)),
        eventOf('charge.dispute.updated', dispute('under_review'), at(6)),
        eventOf('charge.dispute.closed', dispute('won'), at(7)),
        eventOf('credit_note.created', note('a', '1', 'issued'), at(8)),
        eventOf('credit_note.created', note('b', '2', 'issued'), at(8)),
        eventOf('credit_note.voided', note('b', '2', 'void'), at(9)),
      ]
    }
    const orders = fc.array(fc.nat(13), { maxLength: 30 })
    await fc.assert(
      fc.asyncProperty(orders, fc.integer(), async (some, seed) => {
        const name = `order_${run++}`
        const invoiceId = await invoiced(['10', '20'])
        const all = scenario(invoiceId, name)
        const rest = all.map((_, index) => index).filter((index) => !some.includes(index))
        const order = [...some, ...(seed % 2 === 0 ? rest : rest.toReversed())]
        for (const index of order) await outcomeOf(all[index] ?? {})
        const voided = await call(service, `/api/v1/credit-notes?invoice_id=${invoiceId}`)
        expect(await stateOf(invoiceId)).toMatchObject({
          ...{ status: 'paid', paidAt: new Date(at(5)), voidedAt: null, credited: '1' },
          ...{ lastPaymentError: null, stripeInvoiceIds: [`in_${name}`] },
          disputes: [{ amount: '12.34', status: 'won', updatedAt: new Date(at(7)) }],
        })
        const notes = z
          .object({
            credit_notes: z.array(z.looseObject({ status: z.string(), voided_at: z.string().nullable() })),
          })
          .parse(voided.json).credit_notes
        expect(notes.map(({ status }) => status).sort()).toEqual(['issued', 'void'])
      }),
      { numRuns: 25 },
    )
  })
})

describe('payouts', () => {
  const record = (fields: object, headers: Readonly<Record<string, string>> = {}) =>
    call(service, '/api/v1/payouts', {
      body: { recipient: `owner-${test}`, amount: '12.50', currency: 'EUR', ...fields },
      headers,
    })
  const statusOf = async (id: string) =>
    z
      .looseObject({
        status: z.string(),
        failure_reason: z.string().nullable(),
        arrival_date: z.string().nullable(),
      })
      .parse((await call(service, `/api/v1/payouts/${id}`)).json)
  const idOf = (answer: { readonly status: number; readonly json: unknown }) => {
    expect(answer.status).toBe(201)
    return z.object({ id: z.string() }).parse(answer.json).id
  }

  it('are recorded once, and listed by recipient, status and period', async () => {
    const period = { period_start: '2026-10-01', period_end: '2026-11-01' }
    const key = { 'idempotency-key': randomUUID() }
    const answers = await Promise.all([
      record(period, key),
      record(period, key),
      record({ ...period, amount: '12.5' }, key),
    ])
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 201])
    expect(pathsOf(problemOf(await record({ ...period, amount: '13' }, key), 409))).toEqual([
      'idempotency_key',
    ])
    const second = idOf(await record({ external_id: `po_list${test}` }))
    expect(pathsOf(problemOf(await record({ external_id: `po_list${test}` }), 409))).toEqual(['external_id'])
    expect(pathsOf(problemOf(await record({ amount: '0' }), 400))).toEqual(['amount'])
    expect(pathsOf(problemOf(await record({ period_start: '2026-10-01' }), 400))).toEqual(['period_end'])
    const list = async (query: string) =>
      z
        .looseObject({
          payouts: z.array(z.looseObject({ id: z.string() })),
          next_cursor: z.string().nullable(),
        })
        .parse((await call(service, `/api/v1/payouts?recipient=owner-${test}${query}`)).json)
    const first = await list('&limit=1')
    const rest = await list(`&limit=1&cursor=${first.next_cursor}`)
    expect([first.payouts.length, rest.payouts.length, rest.next_cursor]).toEqual([1, 1, null])
    const listed = [...first.payouts, ...rest.payouts].map(({ id }) => id)
    expect([listed.includes(second), new Set(listed).size]).toEqual([true, 2])
    expect((await list('&start=2026-10-31&end=2026-12-01')).payouts).toHaveLength(1)
    expect((await list('&start=2026-11-01')).payouts).toHaveLength(0)
    expect((await list('&status=paid')).payouts).toHaveLength(0)
    problemOf(await call(service, `/api/v1/payouts/${randomUUID()}`), 404)
  })

  it.each([
    ['forwards', [0, 1, 2, 3]],
    ['backwards', [3, 2, 1, 0]],
    ['shuffled', [2, 0, 3, 0, 1, 2]],
  ])('move only as Stripe documents, events %s', async (name, order) => {
    const external = `po_${name}`
    const id = idOf(await record({ external_id: external }))
    const at = (seconds: number) => NOW - 50_000 + seconds * 1000
    const payout = (status: string, fields: object = {}) => ({
      id: external,
      status,
      metadata: {},
      ...fields,
    })
    const all = [
      eventOf('payout.created', payout('pending', { arrival_date: Date.UTC(2026, 11, 3) / 1000 }), at(0)),
      eventOf('payout.updated', payout('in_transit', { arrival_date: Date.UTC(2026, 11, 3) / 1000 }), at(1)),
      eventOf('payout.paid', payout('paid', { arrival_date: Date.UTC(2026, 11, 3) / 1000 }), at(2)),
      eventOf(
        'payout.failed',
        payout('failed', {
          failure_message: 'The account is closed.',
          arrival_date: Date.UTC(2026, 11, 3) / 1000,
        }),
        at(3),
      ),
    ]
    for (const index of order) await outcomeOf(all[index] ?? {})
    expect(await statusOf(id)).toMatchObject({
      ...{ status: 'failed', failure_reason: 'The account is closed.', arrival_date: '2026-12-03' },
    })
  })

  it('know what was said before they were recorded; transfers may be reversed', async () => {
    const transfer = (reversed: boolean) => ({ id: `tr_${test}`, object: 'transfer', reversed, metadata: {} })
    expect(await outcomeOf(eventOf('transfer.created', transfer(false), NOW - 5000))).toBe('unknown')
    const id = idOf(await record({ external_id: `tr_${test}` }))
    expect(await statusOf(id)).toMatchObject({ status: 'paid' })
    expect(await outcomeOf(eventOf('transfer.reversed', transfer(true)))).toBe('applied')
    expect(await statusOf(id)).toMatchObject({
      status: 'canceled',
      failure_reason: 'The transfer was reversed.',
    })
  })

  it('are found by their metadata, too', async () => {
    const id = idOf(await record({}))
    const payout = { id: 'po_named', status: 'paid', metadata: { tokentally_payout_id: id } }
    expect(await outcomeOf(eventOf('payout.paid', payout))).toBe('applied')
    expect(await statusOf(id)).toMatchObject({ status: 'paid', external_id: 'po_named' })
  })
})

import { decimal, decimalText, ZERO } from '@tokentally/core'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { z } from 'zod'
import { type Answer, call, sendUsage, submissionOf } from '../contract/api-client.ts'
import { type FakeStripe, startFakeStripe } from '../fake-stripe/index.ts'
import {
  createTestDatabase,
  type SpawnedService,
  spawnService,
  startService,
  type TestDatabase,
  waitFor,
} from '../harness/index.ts'

/**
 * From usage to money: what a customer used becomes an invoice, the invoice is made at Stripe to the cent, a mistake is
 * given back, what came late is on the next invoice, and what Stripe says of the payment is known here.
 *
 * All by HTTP, against the service as it is started, on the clock of the machine: the cycles are two months that
 * are over.
 */

const WEBHOOK_SECRET = 'whsec_journey'
const TODAY = new Date()
/** The first day of the month so many months ago, or another day of it. */
const dayOf = (monthsAgo: number, day = 1) =>
  new Date(Date.UTC(TODAY.getUTCFullYear(), TODAY.getUTCMonth() - monthsAgo, day)).toISOString().slice(0, 10)
const FIRST_CYCLE = dayOf(3)
const SECOND_CYCLE = dayOf(2)

let database: TestDatabase
let service: SpawnedService
let stripe: FakeStripe
beforeAll(async () => {
  database = await createTestDatabase()
  stripe = await startFakeStripe()
  // Rules begin when they are made: this one was made before all that is invoiced.
  const then = new Date(`${dayOf(4)}T00:00:00Z`)
  const earlier = await startService({ databaseUrl: database.url, roles: 'api', now: () => then })
  ok(await call(earlier, '/api/v1/markup-rules', { body: { id: 'base', markup: '0.2' } }))
  await earlier.stop()
  service = await spawnService({
    databaseUrl: database.url,
    environment: { TOKENTALLY_STRIPE_URL: stripe.url },
  })
})
afterAll(async () => {
  await service.stop()
  await stripe.stop()
  await database.drop()
})

const invoiceSchema = z.object({
  id: z.string(),
  number: z.string().nullable(),
  status: z.string(),
  total: z.string(),
  credited: z.string(),
  delivery: z.array(z.looseObject({ system: z.string(), status: z.string() })).default([]),
  lines: z
    .array(
      z.looseObject({
        line_no: z.number(),
        description: z.string(),
        is_late: z.boolean(),
        exact_amount: z.string(),
        amount: z.string(),
      }),
    )
    .default([]),
})
type Invoice = z.infer<typeof invoiceSchema>

const ok = (answer: Answer): Answer => {
  expect([answer.status, answer.text]).toEqual([
    expect.toSatisfy((status) => status < 300),
    expect.any(String),
  ])
  return answer
}
const post = async (path: string, body: object) => ok(await call(service, path, { body })).json
const put = async (path: string, body: object) => ok(await call(service, path, { method: 'PUT', body })).json
const get = async (path: string) => ok(await call(service, path)).json
const invoiceOf = async (id: string) => invoiceSchema.parse(await get(`/api/v1/invoices/${id}`))
const sumOf = (amounts: readonly string[]) =>
  decimalText(amounts.reduce((sum, amount) => sum.plus(decimal(amount)), ZERO))
/** Stripe counts euros in cents. */
const cents = (amount: string) => Number(decimalText(decimal(amount).times(decimal('100'))))

/** A million tokens in, a hundred thousand out, of acme. */
const usage = (event_id: string, model: string, day: string) => ({
  ...{ event_id, model, ts: `${day}T12:00:00Z`, customer_id: 'acme', provider: 'acme-llm' },
  ...{ input_tokens: 1_000_000, output_tokens: 100_000, provider_request_id: `req_${event_id}` },
})
const send = async (...events: readonly object[]) =>
  expect(submissionOf(await sendUsage(service, events)).accepted).toBe(events.length)

/** Closes the cycle of a month. The service does so by itself, too, every few minutes. */
async function close(firstDay: string): Promise<Invoice> {
  const closed = await call(service, '/api/v1/invoices/close', { body: { customer_id: 'acme' } })
  expect([200, 409]).toContain(closed.status)
  let invoices: readonly Invoice[] = []
  const isComputed = async () => {
    const list = await get(`/api/v1/invoices?customer_id=acme&period=${firstDay.slice(0, 7)}`)
    invoices = z.object({ invoices: z.array(invoiceSchema) }).parse(list).invoices
    return invoices[0]?.status === 'open'
  }
  await waitFor(isComputed, 'the cycle is closed')
  expect(invoices).toHaveLength(1)
  return invoiceOf(invoices[0]?.id ?? '')
}

/** The invoice at Stripe that names ours, once everything was told. */
async function atStripe({ id }: Invoice) {
  const delivered = async () => (await invoiceOf(id)).delivery.some(({ status }) => status === 'done')
  await waitFor(delivered, 'Stripe has the invoice', 30_000)
  const [found, ...others] = [...stripe.objects.invoices.values()].filter((invoice) =>
    JSON.stringify(invoice['metadata']).includes(id),
  )
  expect(others).toEqual([])
  if (found === undefined) throw new Error('Stripe has no such invoice.')
  return found
}

/** An invoice is the same wherever it is looked at, to the cent. */
async function expectSameEverywhere(invoice: Invoice): Promise<void> {
  const { id, lines, total } = invoice
  const amounts = lines.map(({ amount }) => amount)
  expect(sumOf(amounts)).toBe(total)

  const there = await atStripe(invoice)
  expect([there['currency'], there['subtotal']]).toEqual(['eur', cents(total)])
  expect(stripe.objects.itemsOf(there.id).map((item) => [item['metadata'], item['amount']])).toEqual(
    lines.map(({ line_no, amount }) => [
      expect.objectContaining({ tokentally_line: String(line_no) }),
      cents(amount),
    ]),
  )

  const [, ...rows] = ok(await call(service, `/api/v1/usage.csv?invoice=${id}`))
    .text.trimEnd()
    .split('\r\n')
    .map((row) => row.split(','))
  for (const { line_no, amount } of lines) {
    const own = rows.filter((cells) => cells[7] === String(line_no))
    expect(sumOf(own.map((cells) => cells[5] ?? ''))).toBe(amount)
  }
}

it('usage becomes an invoice that is right to the cent, here and at Stripe, and is paid', {
  timeout: 120_000,
}, async () => {
  // What calls cost; customers pay a fifth more, in euros (0.8 for a dollar).
  for (const [model, input, output] of [
    ['small', '0.15', '0.60'],
    ['large', '2.50', '10.00'],
  ]) {
    const rates = {
      input_tokens: { price: input, per: 1_000_000 },
      output_tokens: { price: output, per: 1_000_000 },
    }
    await post('/api/v1/prices', {
      provider: 'acme-llm',
      model,
      rates,
      effective_from: `${FIRST_CYCLE}T00:00:00Z`,
    })
  }
  const csv = `Date,USD,\n${SECOND_CYCLE},1.25,\n${FIRST_CYCLE},1.25,\n`
  ok(await call(service, '/api/v1/fx-rates', { body: csv, headers: { 'content-type': 'text/csv' } }))
  await put('/api/v1/customers/acme', { currency: 'EUR' })

  // small: 0.15 + 0.06 = 0.21 $, sold for 0.252 $ = 0.2016 €; large: 3.50 $, sold for 4.20 $ = 3.36 €.
  await send(
    usage('first', 'small', dayOf(3, 5)),
    usage('second', 'small', dayOf(3, 6)),
    usage('third', 'large', dayOf(3, 7)),
    usage('mistaken', 'large', dayOf(3, 8)),
  )

  // Who is invoiced, and where invoices go.
  await put('/api/v1/billing-systems/stripe', {
    secrets: { api_key: 'sk_test_fake', webhook_secret: WEBHOOK_SECRET },
  })
  const profile = {
    ...{ starts_on: FIRST_CYCLE, ends_on: SECOND_CYCLE, currency: 'EUR', finalize: 'auto' },
    ...{ system: 'stripe_invoices', stripe_customer_id: stripe.objects.createCustomer({}).id },
  }
  await put('/api/v1/billing-profiles/acme', profile)
  const invoice = await close(FIRST_CYCLE)
  expect(invoice).toMatchObject({
    status: 'open',
    number: expect.stringMatching(/^INV-\d{4}-000001$/),
    total: '7.12',
  })
  expect(invoice.lines).toMatchObject([
    { line_no: 1, description: 'large, 2 calls', exact_amount: '6.72', amount: '6.72' },
    { line_no: 2, description: 'small, 2 calls', exact_amount: '0.4032', amount: '0.4' },
  ])
  await expectSameEverywhere(invoice)
  expect(await atStripe(invoice)).toMatchObject({ status: 'open' })

  // From a line to its events, what the provider knows them by, and the price that they were rated with; and back.
  const { events } = z
    .object({ events: z.array(z.looseObject({ event_id: z.string(), amount: z.string() })) })
    .parse(await get(`/api/v1/invoices/${invoice.id}/lines/2/events`))
  expect(sumOf(events.map(({ amount }) => amount))).toBe('0.4032')
  expect(events.map(({ event_id, provider_request_id }) => [event_id, provider_request_id])).toEqual([
    ['first', 'req_first'],
    ['second', 'req_second'],
  ])
  const first = z
    .object({ rating: z.looseObject({ price_version_id: z.string() }), invoice_lines: z.array(z.unknown()) })
    .parse(await get('/api/v1/usage/first'))
  expect(events[0]).toMatchObject({ price_version_id: first.rating.price_version_id, fx_rate: '0.8' })
  expect(first.invoice_lines).toMatchObject([{ invoice_id: invoice.id, line_no: 2 }])

  // For those who pay it.
  const pdf = ok(await call(service, `/api/v1/invoices/${invoice.id}.pdf`))
  expect(pdf.bytes.subarray(0, 5).toString()).toBe('%PDF-')
  expect(await get(`/api/v1/invoices/${invoice.id}.json`)).toMatchObject({
    number: invoice.number,
    total: '7.12',
  })
  const rows = ok(await call(service, `/api/v1/invoices/${invoice.id}.csv`))
    .text.trimEnd()
    .split('\r\n')
    .slice(1)
  expect(sumOf(rows.map((row) => row.split(',').at(-2) ?? ''))).toBe('7.12')

  // One call was booked by mistake: it is taken back, and given back by a credit note, at Stripe too.
  const correction = z.object({ id: z.string() }).parse(
    await post('/api/v1/corrections', {
      reason: 'a load test',
      select: { event_ids: ['mistaken'] },
      change: { void: true },
    }),
  )
  const credited = await post('/api/v1/credit-notes', { correction_id: correction.id })
  expect(credited).toMatchObject({
    credit_notes: [{ invoice_id: invoice.id, total: '3.36', lines: [{ line_no: 1, amount: '3.36' }] }],
    not_credited: [],
  })
  await waitFor(() => stripe.objects.creditNotes.size === 1, 'Stripe has the credit note', 30_000)
  const there = await atStripe(invoice)
  expect([...stripe.objects.creditNotes.values()]).toMatchObject([{ invoice: there.id, total: 336 }])
  expect((await invoiceOf(invoice.id)).credited).toBe('3.36')

  // What comes after an invoice is on the next one; what the note has settled is not.
  await send(usage('late', 'small', dayOf(3, 20)), usage('fourth', 'large', dayOf(2, 5)))
  await put('/api/v1/billing-profiles/acme', { ...profile, ends_on: dayOf(1) })
  const next = await close(SECOND_CYCLE)
  expect(next.lines).toMatchObject([
    { description: 'large, 1 call', is_late: false, amount: '3.36' },
    {
      description: `small, 1 call (late usage before ${SECOND_CYCLE})`,
      is_late: true,
      exact_amount: '0.2016',
    },
  ])
  expect(next.total).toBe('3.56')
  await expectSameEverywhere(next)
  expect(sumOf([(await invoiceOf(invoice.id)).total, next.total])).toBe('10.68')

  // The customer pays, and Stripe says so.
  for (const { id } of [there, await atStripe(next)]) {
    stripe.objects.pay(id)
    const paid = stripe.objects.events.at(-1)
    if (paid === undefined) throw new Error('Stripe tells nothing.')
    const { body, headers } = stripe.delivery(paid, WEBHOOK_SECRET)
    expect(ok(await call(service, '/webhooks/stripe', { body, headers, key: null })).json).toEqual({
      received: true,
      outcome: 'applied',
    })
  }
  expect([(await invoiceOf(invoice.id)).status, (await invoiceOf(next.id)).status]).toEqual(['paid', 'paid'])

  // Both sides have the same.
  expect(await get('/api/v1/billing-systems/stripe/reconciliation')).toMatchObject({
    checked: 2,
    differences: [],
  })
})

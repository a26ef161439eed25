import Stripe from 'stripe'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { type FakeStripe, startFakeStripe } from './index.ts'
import { API_VERSION } from './validate.ts'

/** The fake, called by the real client: what others rely on. */

let fake: FakeStripe
let stripe: Stripe
beforeAll(async () => {
  fake = await startFakeStripe()
  const { hostname, port } = new URL(fake.url)
  stripe = new Stripe('sk_test_fake', {
    host: hostname,
    port,
    protocol: 'http',
    maxNetworkRetries: 0,
    timeout: 500,
  })
})
afterAll(() => fake.stop())
beforeEach(() => fake.fail(undefined))

const draft = (customer: string, idempotencyKey?: string) =>
  stripe.invoices.create(
    { customer, currency: 'usd', collection_method: 'send_invoice', days_until_due: 30 },
    idempotencyKey === undefined ? {} : { idempotencyKey },
  )

test('is described by the version that the library pins', () => {
  expect(API_VERSION).toBe(Stripe.API_VERSION)
})

test('an invoice is made, filled, finalized, paid and credited', async () => {
  const customer = await stripe.customers.create({ name: 'Acme' })
  const invoice = await draft(customer.id)
  for (const amount of [1000, 250, -50]) {
    await stripe.invoiceItems.create({ customer: customer.id, invoice: invoice.id, currency: 'usd', amount })
  }
  const open = await stripe.invoices.finalizeInvoice(invoice.id)
  expect(open).toMatchObject({ status: 'open', total: 1200, amount_remaining: 1200 })
  const lines = await stripe.invoices.listLineItems(invoice.id)
  const [line] = lines.data
  await stripe.creditNotes.create({
    invoice: invoice.id,
    lines: [{ type: 'invoice_line_item', invoice_line_item: line?.id ?? '', amount: 200 }],
  })
  expect(await stripe.invoices.pay(invoice.id)).toMatchObject({ status: 'paid', amount_paid: 1000 })
  await expect(stripe.invoices.voidInvoice(invoice.id)).rejects.toMatchObject({ statusCode: 400 })
  expect(fake.objects.events.map(({ type }) => type)).toEqual([
    'invoice.created',
    'invoice.finalized',
    'credit_note.created',
    'invoice.paid',
  ])
})

test('keys are replayed, and refused with other parameters', async () => {
  const { id } = await stripe.customers.create({})
  const first = await draft(id, 'one')
  expect((await draft(id, 'one')).id).toBe(first.id)
  const other = await stripe.customers.create({})
  await expect(draft(other.id, 'one')).rejects.toThrow(Stripe.errors.StripeIdempotencyError)
  fake.forgetKeys()
  expect((await draft(id, 'one')).id).not.toBe(first.id)
})

test('what got no answer after it was done is there', async () => {
  const { id } = await stripe.customers.create({})
  fake.fail(() => 'timeout_after_commit')
  await expect(draft(id, 'cut')).rejects.toThrow(Stripe.errors.StripeConnectionError)
  fake.fail(undefined)
  const { data } = await stripe.invoices.list({ customer: id })
  expect(data.map((invoice) => invoice.id)).toEqual([(await draft(id, 'cut')).id])
})

test('lists are paged', async () => {
  const { id } = await stripe.customers.create({})
  for (let index = 0; index < 5; index += 1) await draft(id)
  const seen: string[] = []
  for await (const invoice of stripe.invoices.list({ customer: id, limit: 2 })) seen.push(invoice.id)
  expect(new Set(seen).size).toBe(5)
})

test('wrong parameters and deleted customers are refused in the form of Stripe', async () => {
  const unknown = { customer: 'cus_none', nonsense: 1 }
  await expect(stripe.invoices.create(unknown)).rejects.toMatchObject({
    type: 'StripeInvalidRequestError',
    code: 'parameter_unknown',
    param: 'nonsense',
  })
  const { id } = await stripe.customers.create({})
  await stripe.customers.del(id)
  await expect(draft(id)).rejects.toMatchObject({ code: 'resource_missing', param: 'customer' })
})

test('webhooks are signed as Stripe signs them', () => {
  const [event] = fake.objects.events
  if (event === undefined) throw new Error('nothing happened')
  const { body, headers } = fake.delivery(event, 'whsec_test')
  const signature = headers['stripe-signature'] ?? ''
  expect(stripe.webhooks.constructEvent(body, signature, 'whsec_test').id).toBe(event.id)
  expect(() => stripe.webhooks.constructEvent(`${body} `, signature, 'whsec_test')).toThrow()
})

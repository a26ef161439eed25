import { randomUUID } from 'node:crypto'
import Stripe from 'stripe'
import { afterAll, beforeAll, expect, it } from 'vitest'
import {
  CREATE_CREDIT_NOTE,
  createCreditNote,
} from '../../apps/server/src/billing-systems/stripe/credit-note-steps.ts'
import { type FakeStripe, startFakeStripe } from '../fake-stripe/index.ts'

/** Credit notes of ours at Stripe, by the real client. */

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

async function invoiced(amounts: readonly number[]): Promise<string> {
  const customer = (await stripe.customers.create({})).id
  const { id: invoice } = await stripe.invoices.create({
    customer,
    currency: 'usd',
    collection_method: 'send_invoice',
    days_until_due: 30,
  })
  for (const [index, amount] of amounts.entries()) {
    const metadata = { tokentally_line: String(index + 1) }
    await stripe.invoiceItems.create({ customer, invoice, currency: 'usd', amount, metadata })
  }
  return invoice
}

function credit(invoice: string | undefined, lines: readonly { line: string; amount: number }[]) {
  const payload = {
    ...{ credit_note_id: randomUUID(), invoice_id: randomUUID(), number: 'CN-2026-000001', memo: 'goodwill' },
    total: lines.reduce((sum, { amount }) => sum + amount, 0),
    lines: lines.map((line) => ({ ...line })),
  }
  const key = randomUUID()
  const at = new Date()
  return (keyGeneration = 0) =>
    createCreditNote(stripe, payload, {
      ...{
        organizationId: randomUUID(),
        settings: {},
        secrets: {},
        attempt: 1,
        keySince: at,
        at,
        keyGeneration,
      },
      idempotencyKey: `${key}:${keyGeneration}`,
      earlier: invoice === undefined ? {} : { create_invoice: { invoice } },
    })
}
const notesOf = async (invoice: string) => (await stripe.creditNotes.list({ invoice })).data

it('are made once, on the lines that they are tied to', async () => {
  expect(CREATE_CREDIT_NOTE).toBe('create_credit_note')
  const invoice = await invoiced([1000, 2000])
  await stripe.invoices.finalizeInvoice(invoice)
  const make = credit(invoice, [{ line: '2', amount: 700 }])
  // The same key, then another one after Stripe has settled it on a failure.
  const results = [await make(), await make(), await make(1)]
  const notes = await notesOf(invoice)
  expect(notes).toMatchObject([
    {
      ...{ amount: 700, memo: 'goodwill', metadata: { tokentally_number: 'CN-2026-000001' } },
      lines: { data: [{ amount: 700 }] },
    },
  ])
  for (const result of results)
    expect(result).toEqual({ kind: 'done', result: { credit_note: notes[0]?.id } })
})

it('go to the balance of a customer who has paid', async () => {
  const invoice = await invoiced([1000])
  await stripe.invoices.finalizeInvoice(invoice)
  await stripe.invoices.pay(invoice)
  expect(await credit(invoice, [{ line: '1', amount: 400 }])()).toMatchObject({ kind: 'done' })
  expect(await notesOf(invoice)).toMatchObject([{ amount: 400 }])
  const sent = fake.requests.findLast(({ operation }) => operation === 'POST /v1/credit_notes')
  expect(sent?.form).toMatchObject({ credit_amount: '400' })
})

it('are refused while the invoice is a draft, was never made, or has not the line', async () => {
  const invoice = await invoiced([1000])
  expect(await credit(invoice, [{ line: '1', amount: 400 }])()).toMatchObject({
    kind: 'refused',
    reason: expect.stringContaining('draft'),
  })
  expect(await credit(undefined, [{ line: '1', amount: 400 }])()).toMatchObject({ kind: 'refused' })
  await stripe.invoices.finalizeInvoice(invoice)
  expect(await credit(invoice, [{ line: '7', amount: 400 }])()).toMatchObject({
    kind: 'refused',
    reason: expect.stringContaining('no line 7'),
  })
  expect(await notesOf(invoice)).toEqual([])
})

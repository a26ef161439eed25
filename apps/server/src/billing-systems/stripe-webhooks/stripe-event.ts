import { z } from 'zod'
import { amountOfStripe } from '../stripe/minor-amount.ts'

/**
 * Stripe's events (docs.stripe.com/api/events), as far as we act on them. Of an event only these facts are kept: no
 * names, no addresses, no card.
 */

/** Keys of the metadata that our objects carry at Stripe. */
const METADATA = {
  invoice: ['tokentally_invoice_id', 'tokentally_invoice'],
  line: ['tokentally_line_no', 'tokentally_line'],
  creditNote: ['tokentally_credit_note_id', 'tokentally_credit_note'],
  payout: ['tokentally_payout_id', 'tokentally_payout'],
} as const

const text = z.string().max(10_000)
const creditedLine = z.object({ line_no: z.number().int().nullable(), amount: z.string() })

/** What an event says. `about`: the object at Stripe that must be known before it can be worked on. */
export const stripeFactsSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('invoice'),
    about: z.string(),
    invoice_id: z.string().nullable(),
    status: z.enum(['open', 'paid', 'void', 'uncollectible']).nullable(),
    failure: z.string().nullable(),
    payments: z.array(z.string()),
  }),
  z.object({ kind: z.literal('invoice_payment'), about: z.string(), payment: z.string() }),
  z.object({ kind: z.literal('payment_failure'), payment: z.string(), reason: z.string() }),
  z.object({
    kind: z.literal('credit_note'),
    about: z.string(),
    id: z.string(),
    /** Our own note's id: it is the echo of ours. */
    ours: z.string().nullable(),
    reason: z.string(),
    lines: z.array(creditedLine),
    is_void: z.boolean(),
    created: z.number(),
  }),
  z.object({
    kind: z.literal('dispute'),
    id: z.string(),
    payment: z.string(),
    amount: z.string(),
    currency: z.string(),
    reason: z.string(),
    status: z.string(),
  }),
  z.object({
    kind: z.literal('payout'),
    about: z.string(),
    payout_id: z.string().nullable(),
    status: z.enum(['pending', 'in_transit', 'paid', 'failed', 'canceled']),
    failure: z.string().nullable(),
    arrival_date: z.string().nullable(),
  }),
])
export type StripeFacts = z.infer<typeof stripeFactsSchema>

/** An event: its envelope, and the facts where we act on it. */
export interface StripeEvent {
  readonly id: string
  readonly type: string
  readonly createdAt: Date
  readonly objectId: string | null
  /** Undefined: it does not concern us. */
  readonly facts: StripeFacts | undefined
}

const metadata = z.record(z.string(), z.string()).nullish()
const envelope = z.object({
  id: z.string().min(1).max(255),
  type: z.string().min(1).max(255),
  created: z.number().int(),
  data: z.object({ object: z.looseObject({ id: z.string().max(255).optional() }) }),
})
/** A reference: an id, or the whole object where Stripe was asked for it. */
const reference = z.union([z.string(), z.looseObject({ id: z.string() }).transform(({ id }) => id)]).nullish()
const paymentOf = z.looseObject({ payment_intent: reference, charge: reference })

const invoiceObject = z.looseObject({
  id: z.string(),
  status: z.string().nullish(),
  metadata,
  attempt_count: z.number().int().nullish(),
  last_finalization_error: z.looseObject({ message: text.nullish() }).nullish(),
  payments: z.looseObject({ data: z.array(z.looseObject({ payment: paymentOf })) }).nullish(),
  // Before the API of 2025-03-31.
  payment_intent: reference,
  charge: reference,
})
const invoicePaymentObject = z.looseObject({ invoice: reference, payment: paymentOf })
const paymentIntentObject = z.looseObject({
  id: z.string(),
  last_payment_error: z.looseObject({ message: text.nullish(), code: text.nullish() }).nullish(),
})
const creditNoteObject = z.looseObject({
  id: z.string(),
  invoice: reference,
  status: z.string(),
  currency: z.string(),
  created: z.number().int(),
  amount: z.number().int(),
  reason: z.string().nullish(),
  memo: text.nullish(),
  metadata,
  lines: z.looseObject({ data: z.array(z.looseObject({ amount: z.number().int(), metadata })) }).nullish(),
})
const disputeObject = z.looseObject({
  id: z.string(),
  payment_intent: reference,
  charge: reference,
  amount: z.number().int(),
  currency: z.string(),
  reason: z.string(),
  status: z.string(),
})
const payoutObject = z.looseObject({
  id: z.string(),
  status: z.string(),
  failure_message: text.nullish(),
  failure_code: text.nullish(),
  arrival_date: z.number().int().nullish(),
  metadata,
})
const transferObject = z.looseObject({ id: z.string(), reversed: z.boolean().default(false), metadata })

/**
 * Reads an event.
 *
 * @throws ZodError when it is no event, or its object is not what its type says
 */
export function readStripeEvent(json: unknown): StripeEvent {
  const { id, type, created, data } = envelope.parse(json)
  return {
    id,
    type,
    createdAt: new Date(created * 1000),
    objectId: data.object.id ?? null,
    facts: factsOf(type, data.object),
  }
}

function factsOf(type: string, object: unknown): StripeFacts | undefined {
  if (type.startsWith('invoice.')) return invoiceFacts(type, object)
  if (type === 'invoice_payment.paid') {
    const { invoice, payment } = invoicePaymentObject.parse(object)
    const paidBy = payment.payment_intent ?? payment.charge
    if (isMissing(invoice) || isMissing(paidBy)) return undefined
    return { kind: 'invoice_payment', about: invoice, payment: paidBy }
  }
  if (type === 'payment_intent.payment_failed') {
    const { id, last_payment_error: error } = paymentIntentObject.parse(object)
    return {
      kind: 'payment_failure',
      payment: id,
      reason: error?.message ?? error?.code ?? 'The payment failed.',
    }
  }
  if (/^credit_note\.(created|updated|voided)$/.test(type)) return creditNoteFacts(object)
  if (type.startsWith('charge.dispute.')) {
    const {
      id,
      payment_intent: intent,
      charge,
      amount,
      currency,
      reason,
      status,
    } = disputeObject.parse(object)
    const payment = intent ?? charge
    if (isMissing(payment)) return undefined
    return {
      ...{ kind: 'dispute', id, payment, reason, status },
      amount: amountOfStripe(amount, currency.toUpperCase()),
      currency: currency.toUpperCase(),
    }
  }
  if (type.startsWith('payout.')) return payoutFacts(object)
  if (type.startsWith('transfer.')) {
    const transfer = transferObject.parse(object)
    return {
      ...{ kind: 'payout', about: transfer.id, payout_id: named(transfer.metadata, METADATA.payout) },
      // A transfer has no status: it is made at once, and may be reversed.
      status: transfer.reversed ? 'canceled' : 'paid',
      failure: transfer.reversed ? 'The transfer was reversed.' : null,
      arrival_date: null,
    }
  }
  return undefined
}

function invoiceFacts(type: string, object: unknown): StripeFacts | undefined {
  // One that is about to be made has no id yet.
  if (type === 'invoice.upcoming') return undefined
  const invoice = invoiceObject.parse(object)
  const { status, last_finalization_error: error, attempt_count: attempts } = invoice
  const payments = [invoice, ...(invoice.payments?.data.map(({ payment }) => payment) ?? [])]
    .map(({ payment_intent: intent, charge }) => intent ?? charge)
    .filter((payment) => !isMissing(payment))
  return {
    kind: 'invoice',
    about: invoice.id,
    invoice_id: named(invoice.metadata, METADATA.invoice),
    status:
      status === 'open' || status === 'paid' || status === 'void' || status === 'uncollectible'
        ? status
        : null,
    failure:
      type === 'invoice.payment_failed'
        ? (error?.message ?? `Attempt ${attempts ?? 1} to collect the payment failed.`)
        : null,
    payments,
  }
}

function creditNoteFacts(object: unknown): StripeFacts | undefined {
  const note = creditNoteObject.parse(object)
  if (isMissing(note.invoice)) return undefined
  const items = note.lines?.data ?? []
  const lines = items.map(({ amount, metadata: own }) => ({
    line_no: lineNoOf(named(own, METADATA.line)),
    amount: amountOfStripe(amount, note.currency.toUpperCase()),
  }))
  return {
    kind: 'credit_note',
    about: note.invoice,
    id: note.id,
    ours: named(note.metadata, METADATA.creditNote),
    reason: note.memo ?? note.reason ?? 'Issued at Stripe',
    lines:
      lines.length > 0
        ? lines
        : [{ line_no: null, amount: amountOfStripe(note.amount, note.currency.toUpperCase()) }],
    is_void: note.status === 'void',
    created: note.created,
  }
}

function payoutFacts(object: unknown): StripeFacts | undefined {
  const payout = payoutObject.parse(object)
  const status = z.enum(['pending', 'in_transit', 'paid', 'failed', 'canceled']).safeParse(payout.status)
  if (!status.success) return undefined
  const { arrival_date: arrival } = payout
  return {
    ...{ kind: 'payout', about: payout.id, payout_id: named(payout.metadata, METADATA.payout) },
    status: status.data,
    failure: payout.failure_message ?? payout.failure_code ?? null,
    arrival_date:
      arrival === null || arrival === undefined ? null : new Date(arrival * 1000).toISOString().slice(0, 10),
  }
}

function named(from: z.infer<typeof metadata>, keys: readonly string[]): string | null {
  for (const key of keys) {
    const value = from?.[key]
    if (value !== undefined && value !== '') return value
  }
  return null
}

function lineNoOf(value: string | null): number | null {
  return value !== null && /^[1-9]\d{0,8}$/.test(value) ? Number(value) : null
}

function isMissing(value: string | null | undefined): value is null | undefined {
  return value === null || value === undefined
}

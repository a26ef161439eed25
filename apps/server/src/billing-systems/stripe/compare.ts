import type { InvoiceDocument, InvoiceStatus } from '@tokentally/core'
import type { Delivery } from '../outbox/outbox-reads.ts'
import { amountOfStripe, stripeAmount } from './minor-amount.ts'
import { expectedItems } from './plan.ts'

/** What is compared of an invoice at Stripe. Amounts as Stripe counts them. */
export interface InvoiceAtStripe {
  readonly id: string
  /** The id here that its metadata names. */
  readonly invoiceId: string
  readonly status: string | null
  readonly currency: string
  readonly customer: string | null
  /** Without tax. */
  readonly total: number
  /** Items by the line that their metadata names; `null`: they name none. */
  readonly items: readonly { readonly label: string | null; readonly amount: number }[]
}

export const DIFFERENCE_KINDS = [
  'missing_at_stripe',
  'unknown_here',
  'doubled_at_stripe',
  'customer',
  'currency',
  'total',
  'line_missing_at_stripe',
  'line_unknown_here',
  'line_doubled_at_stripe',
  'line_amount',
  'status',
] as const

/** Something that is not the same on both sides. */
export interface Difference {
  readonly kind: (typeof DIFFERENCE_KINDS)[number]
  readonly invoiceId: string
  readonly number: string | null
  readonly stripeInvoiceId: string | null
  readonly line: string | null
  readonly ours: string | null
  readonly theirs: string | null
  /** Why it is so, as far as it can be told. */
  readonly cause: string
}

/** Statuses at Stripe that go with ours. */
const SAME_STATUS: Readonly<Record<InvoiceStatus, readonly string[]>> = {
  pending: [],
  draft: [],
  blocked: [],
  open: ['open'],
  paid: ['paid'],
  void: ['void'],
  uncollectible: ['uncollectible'],
}

/** Compares one invoice with what Stripe has of it. */
export function compareInvoice(
  document: InvoiceDocument,
  theirs: readonly InvoiceAtStripe[],
  delivery: Delivery | undefined,
): readonly Difference[] {
  const { invoice } = document
  const found: Difference[] = []
  const report = (
    kind: Difference['kind'],
    at: InvoiceAtStripe | undefined,
    cause: string,
    { ours = null, theirs = null, line = null }: Partial<Pick<Difference, 'ours' | 'theirs' | 'line'>> = {},
  ) =>
    found.push({
      kind,
      invoiceId: invoice.id,
      number: invoice.number,
      stripeInvoiceId: at?.id ?? null,
      line,
      ours,
      theirs,
      cause,
    })

  const [first, ...others] = theirs
  if (first === undefined) {
    // A draft that was voided is deleted there, and what was voided before anybody heard of it never was.
    if (invoice.status !== 'void') report('missing_at_stripe', undefined, causeOfAbsence(delivery))
    return found
  }
  for (const other of others) report('doubled_at_stripe', other, 'Somebody has copied it at Stripe.')

  const customer = invoice.profile.stripe_customer_id ?? null
  if (first.customer !== customer) {
    report('customer', first, CHANGED_THERE, { ours: customer, theirs: first.customer })
  }
  const isSameCurrency = first.currency === invoice.currency.toLowerCase()
  if (!isSameCurrency) {
    report('currency', first, CHANGED_THERE, { ours: invoice.currency, theirs: first.currency.toUpperCase() })
  }
  const shown = (units: number) => amountOfStripe(units, invoice.currency)
  const isUnderway = delivery !== undefined && delivery.status !== 'done'
  const ofChange = isUnderway ? causeOfAbsence(delivery) : CHANGED_THERE
  if (first.total !== stripeAmount(invoice.total, invoice.currency)) {
    report('total', first, ofChange, { ours: invoice.total, theirs: shown(first.total) })
  }
  const expected = expectedItems(document)
  for (const [label, amount] of expected) {
    const [item, ...repeats] = first.items.filter((one) => one.label === label)
    if (item === undefined) {
      report('line_missing_at_stripe', first, ofChange, { line: label, ours: shown(amount) })
    } else if (item.amount !== amount) {
      report('line_amount', first, CHANGED_THERE, {
        line: label,
        ours: shown(amount),
        theirs: shown(item.amount),
      })
    }
    for (const repeat of repeats) {
      report('line_doubled_at_stripe', first, CHANGED_THERE, { line: label, theirs: shown(repeat.amount) })
    }
  }
  for (const item of first.items) {
    if (item.label !== null && expected.has(item.label)) continue
    report('line_unknown_here', first, 'Somebody has added it at Stripe.', {
      line: item.label,
      theirs: shown(item.amount),
    })
  }
  // Stripe cannot void what was paid from the start because it costs nothing.
  const isVoidOfZero = invoice.status === 'void' && first.status === 'paid' && first.total === 0
  if (!isVoidOfZero && !SAME_STATUS[invoice.status].includes(first.status ?? '')) {
    report('status', first, causeOfStatus(invoice.status, first.status, delivery), {
      ours: invoice.status,
      theirs: first.status,
    })
  }
  return found
}

const CHANGED_THERE = 'Somebody has changed it at Stripe.'

function causeOfAbsence(delivery: Delivery | undefined): string {
  if (delivery === undefined) return 'It was not handed over to Stripe yet, or was to another system.'
  if (delivery.status === 'refused') return `Stripe refused it: ${delivery.lastError ?? ''}`
  if (delivery.status === 'waiting') {
    return delivery.lastError === null
      ? 'It is being told to Stripe.'
      : `It waits for another attempt: ${delivery.lastError}`
  }
  return 'Stripe was told of it, and somebody has deleted it there, or it is of another account.'
}

function causeOfStatus(ours: InvoiceStatus, theirs: string | null, delivery: Delivery | undefined): string {
  if (delivery !== undefined && delivery.status !== 'done') return causeOfAbsence(delivery)
  if (theirs === 'draft') return 'It was not finalized at Stripe.'
  return ours === 'open'
    ? 'A webhook of Stripe did not come, or was not worked on.'
    : 'It was changed here without Stripe.'
}

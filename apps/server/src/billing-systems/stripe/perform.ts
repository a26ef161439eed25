import type Stripe from 'stripe'
import { z } from 'zod'
import type { PlannedStep, StepContext, StepOutcome } from '../billing-system.ts'
import { CREATE_CREDIT_NOTE, createCreditNote } from './credit-note-steps.ts'
import { outcomeOfFailure } from './failures.ts'
import { mustLook } from './key-memory.ts'
import { ENSURE_METER, ensureMeter, METER_EVENT, sendMeterEvent } from './meter-steps.ts'
import { METADATA } from './plan.ts'
import { API_KEY } from './settings.ts'

const PAGE = 100

const metadata = z.record(z.string(), z.string())
const createSchema = z.object({
  invoice_id: z.string(),
  not_before: z.number(),
  params: z.object({
    customer: z.string(),
    currency: z.string(),
    collection_method: z.enum(['send_invoice', 'charge_automatically']),
    days_until_due: z.number().optional(),
    auto_advance: z.boolean(),
    pending_invoice_items_behavior: z.literal('exclude'),
    automatic_tax: z.object({ enabled: z.boolean() }),
    description: z.string(),
    custom_fields: z.array(z.object({ name: z.string(), value: z.string() })),
    metadata,
  }),
})
const itemSchema = z.object({
  line: z.string(),
  params: z.object({
    customer: z.string(),
    currency: z.string(),
    amount: z.number(),
    description: z.string(),
    discountable: z.boolean(),
    tax_behavior: z.literal('exclusive').optional(),
    period: z.object({ start: z.number(), end: z.number() }),
    metadata,
  }),
})
const finalizeSchema = z.object({ total: z.number(), auto_advance: z.boolean() })
const createdSchema = z.object({ invoice: z.string() })

/** Does one step at Stripe. What Stripe answers instead becomes an outcome; other errors are thrown. */
export async function performStripeStep(
  clientFor: (apiKey: string) => Stripe,
  step: PlannedStep,
  context: StepContext,
): Promise<StepOutcome> {
  const apiKey = context.secrets[API_KEY]
  if (apiKey === undefined) return { kind: 'retry', reason: `Stripe: the secret ${API_KEY} is not set.` }
  try {
    return await act(clientFor(apiKey), step, context)
  } catch (error) {
    const outcome = outcomeOfFailure(error, context.at.getTime())
    if (outcome === undefined) throw error
    return outcome
  }
}

function act(stripe: Stripe, step: PlannedStep, context: StepContext): Promise<StepOutcome> {
  const [verb] = step.action.split(':')
  switch (verb) {
    case 'create_invoice':
      return createInvoice(stripe, createSchema.parse(step.payload), context)
    case 'add_item':
      return addItem(stripe, itemSchema.parse(step.payload), context)
    case 'finalize_invoice':
      return finalizeInvoice(stripe, finalizeSchema.parse(step.payload), context)
    case 'send_invoice':
      return sendInvoice(stripe, context)
    case CREATE_CREDIT_NOTE:
      return createCreditNote(stripe, step.payload, context)
    case 'void_invoice':
      return voidInvoice(stripe, context)
    case ENSURE_METER:
      return ensureMeter(stripe, step.payload, context)
    case METER_EVENT:
      return sendMeterEvent(stripe, step.payload, context, mustLook(context))
    default:
      return Promise.resolve({ kind: 'refused', reason: `Nobody knows the step ${step.action}.` })
  }
}

async function createInvoice(
  stripe: Stripe,
  { invoice_id, not_before, params }: z.output<typeof createSchema>,
  context: StepContext,
): Promise<StepOutcome> {
  if (params.customer === '') {
    return { kind: 'refused', reason: 'The billing profile named no Stripe customer: void the invoice.' }
  }
  if (mustLook(context)) {
    const query = { customer: params.customer, created: { gte: not_before }, limit: PAGE }
    for await (const invoice of stripe.invoices.list(query)) {
      if (invoice.metadata?.[METADATA.invoice] === invoice_id) return done({ invoice: invoice.id })
    }
  }
  const { days_until_due, ...others } = params
  const { id } = await stripe.invoices.create(
    days_until_due === undefined ? others : { ...others, days_until_due },
    { idempotencyKey: context.idempotencyKey },
  )
  return done({ invoice: id })
}

async function addItem(
  stripe: Stripe,
  { line, params }: z.output<typeof itemSchema>,
  context: StepContext,
): Promise<StepOutcome> {
  const invoice = createdInvoice(context)
  if (mustLook(context)) {
    for await (const item of stripe.invoiceItems.list({ invoice, limit: PAGE })) {
      if (item.metadata?.[METADATA.line] === line) return done({ invoice_item: item.id })
    }
  }
  const { tax_behavior, ...others } = params
  const { id } = await stripe.invoiceItems.create(
    { ...others, invoice, ...(tax_behavior !== undefined && { tax_behavior }) },
    { idempotencyKey: context.idempotencyKey },
  )
  return done({ invoice_item: id })
}

async function finalizeInvoice(
  stripe: Stripe,
  { total, auto_advance }: z.output<typeof finalizeSchema>,
  context: StepContext,
): Promise<StepOutcome> {
  const draft = await stripe.invoices.retrieve(createdInvoice(context))
  // Somebody may have changed the draft at Stripe; what is sent to the customer must be what is written here.
  if (draft.subtotal !== total) {
    return {
      kind: 'refused',
      reason: `At Stripe the draft ${draft.id} comes to ${draft.subtotal}, here to ${total}, in the smallest unit: mend the draft there and try again.`,
    }
  }
  const invoice =
    draft.status === 'draft'
      ? await stripe.invoices.finalizeInvoice(
          draft.id,
          { auto_advance },
          { idempotencyKey: context.idempotencyKey },
        )
      : draft
  return done({ invoice: invoice.id, url: invoice.hosted_invoice_url ?? null })
}

async function sendInvoice(stripe: Stripe, context: StepContext): Promise<StepOutcome> {
  const invoice = await stripe.invoices.retrieve(createdInvoice(context))
  // Nobody is sent an invoice that is paid, or costs nothing.
  if (invoice.status === 'open') {
    await stripe.invoices.sendInvoice(invoice.id, {}, { idempotencyKey: context.idempotencyKey })
  }
  return done({ invoice: invoice.id })
}

async function voidInvoice(stripe: Stripe, context: StepContext): Promise<StepOutcome> {
  const created = createdInvoice(context)
  const invoice = await stripe.invoices.retrieve(created).catch((error: unknown) => {
    if (isMissing(error)) return undefined
    throw error
  })
  // A draft that is deleted is gone, by an earlier attempt or by a person.
  if (invoice === undefined) return done({ invoice: created })
  const { id, status, total } = invoice
  // One of zero is paid from the start, cannot be voided there, and owes nothing either way.
  if (status === 'paid' && total === 0) return done({ invoice: id })
  if (status === 'paid') return { kind: 'refused', reason: `The invoice ${id} is paid at Stripe.` }
  if (status === 'draft') await stripe.invoices.del(id)
  else if (status !== 'void') {
    await stripe.invoices.voidInvoice(id, {}, { idempotencyKey: context.idempotencyKey })
  }
  return done({ invoice: id })
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'resource_missing'
}

function createdInvoice({ earlier }: StepContext): string {
  return createdSchema.parse(earlier['create_invoice']).invoice
}

function done(result: Record<string, string | null>): StepOutcome {
  return { kind: 'done', result }
}

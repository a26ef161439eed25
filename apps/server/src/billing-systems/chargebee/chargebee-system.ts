import { createHash } from 'node:crypto'
import type Chargebee from 'chargebee'
import { z } from 'zod'
import type { GuardOptions } from '../../http/guarded-request.ts'
import type { BillingSystem, PlannedStep, StepContext, StepOutcome } from '../billing-system.ts'
import { dryRunSetting } from '../dry-run.ts'
import { type JsonObject, jsonObject } from '../json.ts'
import { refused } from '../outcome.ts'
import { invoicePayload, invoicePayloadSchema, smallestUnits } from './charges.ts'
import { chargebeeClient } from './client.ts'
import { chargebeeFailure } from './failure.ts'

/**
 * Invoices and credit notes in Chargebee, by its own client.
 *
 * Every call that writes has an idempotency key. Chargebee forgets keys after a while, so every attempt but the first looks before it
 * writes: our number stands on the invoice as `po_number`, and on the credit note in `customer_notes`.
 */

export const chargebeeSettingsSchema = z.strictObject({
  site: z.string().regex(/^[a-z0-9][a-z0-9-]{0,99}$/i, 'must be the name of a Chargebee site'),
  api_url: z
    .string()
    .max(512)
    .refine((value) => /^https?:\/\/[^/]+\/?$/.test(value) && URL.canParse(value), 'must be https://host')
    .optional()
    .describe('Another address than that of the site, such as that of a proxy.'),
  dry_run: dryRunSetting,
})

const LIST_LIMIT = 100
/** As many pages are looked through; an attempt that is repeated looks for something recent. */
const LIST_PAGES_MAX = 3

/** Chargebee dates invoices by its own clock and the site's time zone. */
const CLOCKS_DIFFER_MAX_S = 2 * 86_400

const createdSchema = z.object({ invoice_id: z.string() })
const notePayloadSchema = z.object({
  number: z.string(),
  comment: z.string(),
  currency_code: z.string(),
  total: z.number().int(),
})
const noteTypeSchema = z.object({ type: z.enum(['adjustment', 'refundable']) })
const voidPayloadSchema = z.object({ comment: z.string() })

export function createChargebeeSystem(guard: GuardOptions): BillingSystem {
  return {
    name: 'chargebee',
    reach: 'customer',
    settingsSchema: chargebeeSettingsSchema.transform((value): JsonObject => jsonObject.parse(value)),
    secretNames: ['api_key'],
    invoiceSteps(document) {
      const payload = invoicePayload(document)
      return payload === undefined ? [] : [{ action: 'create_invoice', payload }]
    },
    creditNoteSteps: ({ number, reason, currency, total }) => [
      { action: 'choose_credit_note_type', payload: { total: smallestUnits(total, currency) } },
      {
        action: 'create_credit_note',
        payload: {
          number,
          comment: reason.slice(0, 300),
          currency_code: currency,
          total: smallestUnits(total, currency),
        },
      },
    ],
    voidSteps: ({ invoice }) => [
      { action: 'void_invoice', payload: { comment: `${invoice.number ?? ''} was voided in TokenTally` } },
    ],
    perform: (step, context) => perform(step, context, guard),
  }
}

async function perform(step: PlannedStep, context: StepContext, guard: GuardOptions): Promise<StepOutcome> {
  const { site, api_url: apiUrl } = chargebeeSettingsSchema.parse(context.settings)
  const apiKey = context.secrets['api_key']
  if (apiKey === undefined) return refused('The settings of Chargebee have no api_key.')
  const chargebee = chargebeeClient({ site, apiKey, apiUrl }, guard)
  try {
    switch (step.action) {
      case 'create_invoice':
        return await createInvoice(chargebee, step, context)
      case 'choose_credit_note_type':
        return await chooseNoteType(chargebee, step, context)
      case 'create_credit_note':
        return await createCreditNote(chargebee, step, context)
      case 'void_invoice':
        return await voidInvoice(chargebee, step, context)
      default:
        return refused(`Chargebee has no step ${step.action}.`)
    }
  } catch (error) {
    return chargebeeFailure(error, context.at)
  }
}

async function createInvoice(
  chargebee: Chargebee,
  step: PlannedStep,
  context: StepContext,
): Promise<StepOutcome> {
  const { customer_id, discount, finalized_at, ...invoice } = invoicePayloadSchema.parse(step.payload)
  if (customer_id === null) return refused('The billing profile has no chargebee_customer_id.')
  if (context.attempt > 1) {
    const found = await findInvoice(chargebee, customer_id, invoice.po_number, finalized_at)
    if (found === 'too_many') return refused(tooMany(`invoices of the customer ${customer_id}`))
    if (found !== undefined) return { kind: 'done', result: { invoice_id: found } }
  }
  const answer = await chargebee.invoice.createForChargeItemsAndCharges(
    {
      customer_id,
      ...invoice,
      ...(discount === 0 ? {} : { discounts: [{ apply_on: 'invoice_amount', amount: discount }] }),
    },
    keyOf(context),
  )
  return { kind: 'done', result: { invoice_id: answer.invoice.id } }
}

/** Adjusts what is still owed; gives back what was paid. A step of its own, so that a repeat chooses alike. */
async function chooseNoteType(
  chargebee: Chargebee,
  step: PlannedStep,
  context: StepContext,
): Promise<StepOutcome> {
  const { total } = z.object({ total: z.number().int() }).parse(step.payload)
  const invoiceId = invoiceIdOf(context)
  if (invoiceId === undefined) return refused(NOT_THERE)
  const { invoice } = await chargebee.invoice.retrieve(invoiceId)
  const owed = invoice.amount_due ?? 0
  return { kind: 'done', result: { type: owed >= total ? 'adjustment' : 'refundable' } }
}

async function createCreditNote(
  chargebee: Chargebee,
  step: PlannedStep,
  context: StepContext,
): Promise<StepOutcome> {
  const { number, comment, total } = notePayloadSchema.parse(step.payload)
  const { type } = noteTypeSchema.parse(context.earlier['choose_credit_note_type'])
  const invoiceId = invoiceIdOf(context)
  if (invoiceId === undefined) return refused(NOT_THERE)
  if (context.attempt > 1) {
    const found = await findCreditNote(chargebee, invoiceId, number)
    if (found === 'too_many') return refused(tooMany(`credit notes of the invoice ${invoiceId}`))
    if (found !== undefined) return { kind: 'done', result: { credit_note_id: found } }
  }
  const answer = await chargebee.creditNote.create(
    {
      reference_invoice_id: invoiceId,
      type,
      total,
      reason_code: 'other',
      customer_notes: number,
      comment,
    },
    keyOf(context),
  )
  return { kind: 'done', result: { credit_note_id: answer.credit_note.id } }
}

async function voidInvoice(
  chargebee: Chargebee,
  step: PlannedStep,
  context: StepContext,
): Promise<StepOutcome> {
  const { comment } = voidPayloadSchema.parse(step.payload)
  const invoiceId = invoiceIdOf(context)
  if (invoiceId === undefined) return refused(NOT_THERE)
  if (context.attempt > 1) {
    const { invoice } = await chargebee.invoice.retrieve(invoiceId)
    if (invoice.status === 'voided') return { kind: 'done', result: { invoice_id: invoiceId } }
  }
  await chargebee.invoice.voidInvoice(invoiceId, { comment }, keyOf(context))
  return { kind: 'done', result: { invoice_id: invoiceId } }
}

/** Looks for an invoice with our number, the newest first. */
async function findInvoice(
  chargebee: Chargebee,
  customerId: string,
  number: string,
  finalizedAt: number,
): Promise<string | 'too_many' | undefined> {
  let offset: string | undefined
  for (let page = 0; page < LIST_PAGES_MAX; page++) {
    const answer = await chargebee.invoice.list({
      limit: LIST_LIMIT,
      customer_id: { is: customerId },
      date: { after: finalizedAt - CLOCKS_DIFFER_MAX_S },
      'sort_by[desc]': 'date',
      ...(offset === undefined ? {} : { offset }),
    })
    const found = answer.list.find(({ invoice }) => invoice.po_number === number)
    if (found !== undefined) return found.invoice.id
    offset = answer.next_offset
    if (offset === undefined) return undefined
  }
  return 'too_many'
}

async function findCreditNote(
  chargebee: Chargebee,
  invoiceId: string,
  number: string,
): Promise<string | 'too_many' | undefined> {
  let offset: string | undefined
  for (let page = 0; page < LIST_PAGES_MAX; page++) {
    const answer = await chargebee.creditNote.list({
      limit: LIST_LIMIT,
      reference_invoice_id: { is: invoiceId },
      ...(offset === undefined ? {} : { offset }),
    })
    const found = answer.list.find(({ credit_note }) => credit_note['customer_notes'] === number)
    if (found !== undefined) return found.credit_note.id
    offset = answer.next_offset
    if (offset === undefined) return undefined
  }
  return 'too_many'
}

const NOT_THERE = 'Chargebee has no invoice of this: it was never created there.'

function tooMany(of: string): string {
  return `Too many ${of} to see whether this one is there. Look for it in Chargebee.`
}

function invoiceIdOf({ earlier }: StepContext): string | undefined {
  return createdSchema.safeParse(earlier['create_invoice']).data?.invoice_id
}

/** Chargebee takes at most 100 characters. */
function keyOf({ idempotencyKey }: StepContext): { 'chargebee-idempotency-key': string } {
  const hash = createHash('sha256').update(idempotencyKey).digest('hex')
  return { 'chargebee-idempotency-key': `tokentally-${hash}` }
}

import type Stripe from 'stripe'
import { z } from 'zod'
import type { CreditNoteDocument, PlannedStep, StepContext, StepOutcome } from '../billing-system.ts'
import type { JsonObject } from '../json.ts'
import { mustLook } from './key-memory.ts'

/**
 * Credit notes at Stripe (docs.stripe.com/api/credit_notes/create): one for each of ours, tied to the lines of the
 * invoice there. What is not paid yet becomes less to pay; what is paid goes to the customer's balance at Stripe, which
 * the next invoice there takes first. It refunds no card: that is a person's decision.
 */

/** The action of the one step. */
export const CREATE_CREDIT_NOTE = 'create_credit_note'

const PAGE = 100
const METADATA = {
  note: 'tokentally_credit_note_id',
  invoice: 'tokentally_invoice_id',
  line: 'tokentally_line',
}

const payloadSchema = z.object({
  credit_note_id: z.string(),
  invoice_id: z.string(),
  number: z.string(),
  memo: z.string(),
  /** In the currency's smallest unit, as Stripe counts it. */
  total: z.number(),
  lines: z.array(z.object({ line: z.string(), amount: z.number() })),
})
const earlierInvoice = z.object({ invoice: z.string() })

/**
 * Plans the note's one step.
 *
 * @param stripeAmount an amount of decimal text as Stripe counts it
 */
export function planCreditNote(
  { id, number, reason, currency, total, lines, invoice }: CreditNoteDocument,
  stripeAmount: (amount: string, currency: string) => number,
): readonly PlannedStep[] {
  const payload: JsonObject = {
    ...{ credit_note_id: id, invoice_id: invoice.invoice.id, number, memo: reason },
    total: stripeAmount(total, currency),
    lines: lines.map(({ lineNo, amount }) => ({
      line: String(lineNo),
      amount: stripeAmount(amount, currency),
    })),
  }
  return [{ action: CREATE_CREDIT_NOTE, payload }]
}

/**
 * Makes the note at Stripe. What the client throws is the caller's to judge.
 *
 * @returns `refused` when the invoice is not finalized there, or has not the lines that are credited
 */
export async function createCreditNote(
  stripe: Stripe,
  payload: JsonObject,
  context: StepContext,
): Promise<StepOutcome> {
  const note = payloadSchema.parse(payload)
  const created = earlierInvoice.safeParse(context.earlier['create_invoice'])
  if (!created.success) return refused('its invoice was not made at Stripe')
  const invoiceId = created.data.invoice
  if (mustLook(context)) {
    for await (const standing of stripe.creditNotes.list({ invoice: invoiceId, limit: PAGE })) {
      if (standing.metadata?.[METADATA.note] === note.credit_note_id) {
        return { kind: 'done', result: { credit_note: standing.id } }
      }
    }
  }
  const invoice = await stripe.invoices.retrieve(invoiceId)
  if (invoice.status !== 'open' && invoice.status !== 'paid') {
    return refused(`its invoice ${invoiceId} is ${invoice.status ?? 'gone'} at Stripe`)
  }
  const wanted = new Map(note.lines.map(({ line, amount }) => [line, amount]))
  const lines: {
    type: 'invoice_line_item'
    invoice_line_item: string
    amount: number
    metadata: Stripe.Metadata
  }[] = []
  for await (const item of stripe.invoices.listLineItems(invoiceId, { limit: PAGE })) {
    const line = item.metadata?.[METADATA.line]
    const amount = line === undefined ? undefined : wanted.get(line)
    if (line === undefined || amount === undefined) continue
    wanted.delete(line)
    lines.push({
      ...{ type: 'invoice_line_item', invoice_line_item: item.id, amount },
      metadata: { [METADATA.line]: line },
    })
  }
  if (wanted.size > 0) {
    return refused(`its invoice ${invoiceId} has no line ${[...wanted.keys()].join(', ')} at Stripe`)
  }
  // What is no longer owed cannot become less.
  const paid = note.total - Math.min(note.total, invoice.amount_remaining)
  const { id } = await stripe.creditNotes.create(
    {
      invoice: invoiceId,
      lines,
      memo: note.memo,
      metadata: {
        [METADATA.note]: note.credit_note_id,
        [METADATA.invoice]: note.invoice_id,
        tokentally_number: note.number,
      },
      ...(paid > 0 && { credit_amount: paid }),
    },
    { idempotencyKey: context.idempotencyKey },
  )
  return { kind: 'done', result: { credit_note: id } }
}

function refused(why: string): StepOutcome {
  return { kind: 'refused', reason: `The credit note cannot be made: ${why}.` }
}

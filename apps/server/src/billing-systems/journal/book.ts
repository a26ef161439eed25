import {
  type BookedCreditNote,
  creditNoteEntry,
  type InvoiceDocument,
  invoiceEntry,
  type JournalAccounts,
  type JournalEntry,
  type JournalLine,
  voidEntry,
} from '@tokentally/core'
import { z } from 'zod'
import type { PlannedStep } from '../billing-system.ts'
import type { JsonObject } from '../json.ts'

/** Entries of the general ledger as the steps of systems that keep books. One step posts one entry. */

const entrySchema = z.object({
  id: z.string(),
  kind: z.enum(['invoice', 'credit_note', 'invoice_void']),
  reference: z.string(),
  date: z.string(),
  customer: z.string(),
  currency: z.string(),
  rate_per_usd: z.string().nullable(),
  memo: z.string(),
  lines: z.array(
    z.object({
      account: z.string(),
      side: z.enum(['debit', 'credit']),
      amount: z.string(),
      memo: z.string(),
      is_receivable: z.boolean(),
    }),
  ),
})

/** An entry as the API shows it; amounts are decimal strings. */
export const journalEntryJson = entrySchema.extend({
  date: z.iso.date(),
  rate_per_usd: z
    .string()
    .nullable()
    .describe('Units of `currency` for one US dollar; null: nothing was converted.'),
})

export function entryToJson(entry: JournalEntry): z.output<typeof entrySchema> {
  return {
    id: entry.id,
    kind: entry.kind,
    reference: entry.reference,
    date: entry.date,
    customer: entry.customer,
    currency: entry.currency,
    rate_per_usd: entry.ratePerUsd,
    memo: entry.memo,
    lines: entry.lines.map(lineToJson),
  }
}

function lineToJson({ account, side, amount, memo, isReceivable }: JournalLine) {
  return { account, side, amount, memo, is_receivable: isReceivable }
}

/** @throws ZodError when it is no entry */
export function entryOfJson(json: JsonObject): JournalEntry {
  const { rate_per_usd, lines, ...entry } = entrySchema.parse(json)
  return {
    ...entry,
    ratePerUsd: rate_per_usd,
    lines: lines.map(({ is_receivable, ...line }) => ({ ...line, isReceivable: is_receivable })),
  }
}

/** The steps of a system that keeps books; an entry without lines is none. */
export function bookingSteps(accounts: (settings: JsonObject) => JournalAccounts): {
  invoiceSteps(document: InvoiceDocument, settings: JsonObject): readonly PlannedStep[]
  creditNoteSteps(note: BookedCreditNote, settings: JsonObject): readonly PlannedStep[]
  voidSteps(document: InvoiceDocument, settings: JsonObject): readonly PlannedStep[]
} {
  return {
    invoiceSteps: (document, settings) =>
      postStep('post_invoice', invoiceEntry(document, accounts(settings))),
    creditNoteSteps: (note, settings) =>
      postStep('post_credit_note', creditNoteEntry(note, accounts(settings))),
    voidSteps: (document, settings) => postStep('post_void', voidEntry(document, accounts(settings))),
  }
}

function postStep(action: string, entry: JournalEntry): readonly PlannedStep[] {
  return entry.lines.length === 0 ? [] : [{ action, payload: entryToJson(entry) }]
}

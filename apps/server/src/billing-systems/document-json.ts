import type { InvoiceDocument, InvoiceLine } from '@tokentally/core'
import type { CreditNoteDocument } from './billing-system.ts'
import type { JsonObject } from './json.ts'

/** Invoices and credit notes as files and webhooks carry them. Amounts are decimal strings, times ISO 8601 in UTC. */

/** A finalized invoice with its lines. What changes later (payments, credit) is not in it. */
export function invoiceDocumentToJson({ invoice, lines }: InvoiceDocument): JsonObject {
  const { selection, profile } = invoice
  return {
    id: invoice.id,
    number: invoice.number,
    customer_id: invoice.customer,
    name: profile.name ?? invoice.customer,
    email: profile.email ?? null,
    address: profile.address,
    currency: invoice.currency,
    period_start: new Date(selection.startMs).toISOString(),
    period_end: new Date(selection.endMs).toISOString(),
    timezone: profile.timezone,
    finalized_at: invoice.finalizedAt?.toISOString() ?? null,
    due_at: invoice.dueAt?.toISOString() ?? null,
    voided_at: invoice.voidedAt?.toISOString() ?? null,
    notes: invoice.notes,
    total: invoice.total,
    lines: lines.map(lineToJson),
  }
}

function lineToJson(line: InvoiceLine): JsonObject {
  return {
    line_no: line.lineNo,
    kind: line.kind,
    description: line.description,
    is_late: line.isLate,
    keys: Object.fromEntries(Object.entries(line.keys).map(([name, value]) => [name, value ?? null])),
    events: line.events,
    quantity: line.quantity,
    sell_cost_usd: line.sellCostUsd,
    conversions: line.conversions.map(({ soldIn, rate, rateDate, sellCostUsd, amount }) => ({
      sold_in: soldIn,
      rate,
      rate_date: rateDate,
      sell_cost_usd: sellCostUsd,
      amount,
    })),
    amount: line.amount,
  }
}

export function creditNoteDocumentToJson(note: CreditNoteDocument): JsonObject {
  const { invoice } = note.invoice
  return {
    id: note.id,
    number: note.number,
    invoice_id: invoice.id,
    invoice_number: invoice.number,
    customer_id: invoice.customer,
    reason: note.reason,
    currency: note.currency,
    created_at: note.createdAt.toISOString(),
    total: note.total,
    lines: note.lines.map(({ lineNo, amount }) => ({ line_no: lineNo, amount })),
  }
}

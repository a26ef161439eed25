import { INVOICE_STATUSES, type InvoiceDocument, LINE_DIMENSIONS } from '@tokentally/core'
import { z } from 'zod'
import type { NamedSeller } from '../seller-store.ts'

/** An invoice as its recipient may see it: without list costs, which are the seller's own. */
export const invoiceDocumentJson = z.object({
  id: z.uuid(),
  number: z.string().nullable(),
  status: z.enum(INVOICE_STATUSES),
  seller: z.object({
    name: z.string(),
    address: z.array(z.string()),
    email: z.string().nullable(),
    tax_id: z.string().nullable(),
    footer: z.array(z.string()),
  }),
  customer: z.object({
    customer_id: z.string(),
    name: z.string(),
    address: z.array(z.string()),
    email: z.string().nullable(),
  }),
  period: z.object({ start: z.string(), end: z.string(), timezone: z.string() }),
  currency: z.string(),
  issued_at: z.string().nullable(),
  due_at: z.string().nullable(),
  paid_at: z.string().nullable(),
  voided_at: z.string().nullable(),
  lines: z.array(
    z.object({
      line_no: z.number().int(),
      kind: z.string(),
      description: z.string(),
      is_late: z.boolean(),
      keys: z.partialRecord(z.enum(LINE_DIMENSIONS), z.string().nullable()),
      events: z.number().int(),
      quantity: z.string(),
      sell_cost_usd: z.string(),
      conversions: z.array(
        z.object({
          sold_in: z.string(),
          rate: z.string(),
          rate_date: z.string().nullable(),
          sell_cost_usd: z.string(),
          amount: z.string(),
        }),
      ),
      amount: z.string(),
    }),
  ),
  total: z.string(),
  credited: z.string(),
  notes: z.array(z.string()),
})

/** The document in JSON. */
export function invoiceDocumentToJson(
  { invoice, lines }: InvoiceDocument,
  seller: NamedSeller,
): z.infer<typeof invoiceDocumentJson> {
  const { profile, selection } = invoice
  return {
    id: invoice.id,
    number: invoice.number,
    status: invoice.status,
    seller: {
      name: seller.name,
      address: seller.address,
      email: seller.email ?? null,
      tax_id: seller.tax_id ?? null,
      footer: seller.footer,
    },
    customer: {
      customer_id: invoice.customer,
      name: profile.name ?? invoice.customer,
      address: profile.address,
      email: profile.email ?? null,
    },
    period: {
      start: new Date(selection.startMs).toISOString(),
      end: new Date(selection.endMs).toISOString(),
      timezone: profile.timezone,
    },
    currency: invoice.currency,
    issued_at: invoice.finalizedAt?.toISOString() ?? null,
    due_at: invoice.dueAt?.toISOString() ?? null,
    paid_at: invoice.paidAt?.toISOString() ?? null,
    voided_at: invoice.voidedAt?.toISOString() ?? null,
    lines: lines.map((line) => ({
      line_no: line.lineNo,
      kind: line.kind,
      description: line.description,
      is_late: line.isLate,
      keys: line.keys,
      events: line.events,
      quantity: line.quantity,
      sell_cost_usd: line.sellCostUsd,
      conversions: line.conversions.map((one) => ({
        sold_in: one.soldIn,
        rate: one.rate,
        rate_date: one.rateDate,
        sell_cost_usd: one.sellCostUsd,
        amount: one.amount,
      })),
      amount: line.amount,
    })),
    total: invoice.total,
    credited: invoice.credited,
    notes: [...invoice.notes],
  }
}

import { decimal, decimalText, type InvoiceDocument, invoiceDigits, ZERO } from '@tokentally/core'
import { z } from 'zod'
import type { JsonObject } from '../json.ts'
import { jsonNumber } from '../json-number.ts'

/**
 * Invoices in the terms of Chargebee's `create_for_charge_items_and_charges` (API v2, Product Catalog 2.0): a charge is above zero,
 * in the smallest unit of the currency; what is below zero is a discount on the invoice.
 */

/** Limits of Chargebee's parameters. */
const DESCRIPTION_MAX = 250
const NOTE_MAX = 2000

export const invoicePayloadSchema = z.object({
  customer_id: z.string().nullable(),
  currency_code: z.string(),
  po_number: z.string(),
  invoice_note: z.string(),
  net_term_days: z.number().int(),
  charges: z.array(
    z.object({
      amount: z.number().int(),
      description: z.string(),
      date_from: z.number().int(),
      date_to: z.number().int(),
    }),
  ),
  /** Unix seconds. */
  finalized_at: z.number().int(),
  /** Of the whole invoice; 0: none. */
  discount: z.number().int(),
})

/** @returns undefined when nothing is charged: Chargebee makes no invoices of that */
export function invoicePayload({ invoice, lines }: InvoiceDocument): JsonObject | undefined {
  const { currency, profile, selection } = invoice
  const charged = lines.filter(({ amount }) => decimal(amount).gt(ZERO))
  const deducted = lines.filter(({ amount }) => decimal(amount).lt(ZERO))
  if (charged.length === 0) return undefined
  const period = { date_from: epochSeconds(selection.startMs), date_to: epochSeconds(selection.endMs) - 1 }
  const discount = deducted.reduce((sum, { amount }) => sum.minus(decimal(amount)), ZERO)
  return {
    customer_id: profile.chargebee_customer_id ?? null,
    currency_code: currency,
    po_number: invoice.number,
    invoice_note: [
      `TokenTally invoice ${invoice.number ?? ''} (${invoice.id})`,
      ...deducted.map(({ description, amount }) => `${description}: ${amount} ${currency}`),
    ]
      .join('\n')
      .slice(0, NOTE_MAX),
    net_term_days: profile.net_days,
    charges: charged.map(({ amount, description }) => ({
      amount: smallestUnits(amount, currency),
      description: description.slice(0, DESCRIPTION_MAX),
      ...period,
    })),
    finalized_at: epochSeconds(invoice.finalizedAt?.getTime() ?? 0),
    discount: smallestUnits(decimalText(discount), currency),
  }
}

/** An amount in the smallest unit that the currency is invoiced in: whole. */
export function smallestUnits(amount: string, currency: string): number {
  const units = decimal(amount).times(decimal(`1e${invoiceDigits(currency)}`))
  return jsonNumber(decimalText(units))
}

function epochSeconds(ms: number): number {
  return Math.floor(ms / 1000)
}

import { randomUUID } from 'node:crypto'
import { billingProfileSchema, decimal, decimalText, type InvoiceLine, ZERO } from '@tokentally/core'
import type { Pool } from 'pg'
import type { z } from 'zod'
import { inTransaction } from '../../apps/server/src/database/transaction.ts'
import { insertLines } from '../../apps/server/src/invoicing/invoice-store.ts'

/** Invoices as closing and finalizing leave them, without either. */

export interface OpenInvoice {
  readonly organizationId: string
  readonly customer: string
  readonly currency?: string
  /** One line each. */
  readonly amounts: readonly string[]
  readonly profile?: Partial<z.input<typeof billingProfileSchema>>
  readonly now: Date
}

let lastNumber = 0

/** Writes an open invoice of the month before. @returns its id */
export async function insertOpenInvoice(pool: Pool, wanted: OpenInvoice): Promise<string> {
  const { organizationId, customer, currency = 'USD', amounts, now } = wanted
  const id = randomUUID()
  lastNumber += 1
  const number = `INV-2025-${String(lastNumber).padStart(6, '0')}`
  const profile = billingProfileSchema.parse({ starts_on: '2026-10-01', currency, ...wanted.profile })
  const total = decimalText(amounts.reduce((sum, amount) => sum.plus(decimal(amount)), ZERO))
  const start = new Date(Date.UTC(2026, 9, 1))
  const end = new Date(Date.UTC(2026, 10, 1))
  await inTransaction(pool, async (client) => {
    await client.query(
      `insert into invoice (organization_id, invoice_id, customer_id, number, status, usage_since, period_start, period_end,
         position, currency, profile, total, created_at, finalized_at, due_at)
       values ($1, $2, $3, $4, 'open', $5, $5, $6, 1, $7, $8, $9, $10, $10, $10)`,
      [organizationId, id, customer, number, start, end, currency, JSON.stringify(profile), total, now],
    )
    const lines = amounts.map(
      (amount, index): InvoiceLine => ({
        lineNo: index + 1,
        kind: decimal(amount).lt(ZERO) ? 'discount' : 'usage',
        description: `model-${index + 1}`,
        isLate: false,
        keys: {},
        events: 1,
        quantity: '1000',
        listCostUsd: amount,
        sellCostUsd: amount,
        conversions: [],
        exactAmount: amount,
        amount,
      }),
    )
    await insertLines(client, organizationId, [{ invoiceId: id, revision: 0, lines }])
  })
  return id
}

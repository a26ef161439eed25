import { randomUUID } from 'node:crypto'
import {
  type BillingProfile,
  billingProfileSchema,
  type InvoiceLine,
  type InvoiceStatus,
} from '@tokentally/core'
import { inTransaction } from '../../apps/server/src/database/transaction.ts'
import { insertLines } from '../../apps/server/src/invoicing/invoice-store.ts'
import type { TestDatabase } from '../harness/index.ts'

/** Invoices as the closing of a cycle leaves them, for tests of what comes after it. */

export interface NewInvoice {
  readonly customer: string
  /** Days of UTC. */
  readonly start: string
  readonly end: string
  readonly status?: InvoiceStatus
  readonly number?: string
  readonly lines?: readonly InvoiceLine[]
  readonly total?: string
  readonly previousPosition?: number
  readonly position?: number
  readonly profile?: Partial<BillingProfile>
  readonly notes?: readonly string[]
}

/** Writes an invoice of the organization `default`. @returns its id */
export async function insertInvoice({ pool }: TestDatabase, invoice: NewInvoice): Promise<string> {
  const id = randomUUID()
  const profile = billingProfileSchema.parse({ starts_on: '2026-01-01', ...invoice.profile })
  await inTransaction(pool, async (client) => {
    const { rows } = await client.query<{ id: string }>("select id from organization where name = 'default'")
    const organizationId = rows[0]?.id ?? ''
    await client.query(
      `insert into invoice (organization_id, invoice_id, customer_id, number, status, notes, usage_since, period_start,
         period_end, previous_position, position, currency, profile, revision, total, created_at, finalized_at, due_at,
         voided_at)
       values ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9, $10, $11, $12, 1, $13, $14, $15, $16, $17)`,
      [
        organizationId,
        id,
        invoice.customer,
        invoice.number ?? null,
        invoice.status ?? 'draft',
        JSON.stringify(invoice.notes ?? []),
        new Date(invoice.start),
        new Date(invoice.end),
        invoice.previousPosition ?? null,
        invoice.position ?? 1,
        profile.currency,
        JSON.stringify(profile),
        invoice.total ?? '0',
        new Date('2026-11-02T00:00:00Z'),
        invoice.number === undefined ? null : new Date('2026-11-02T09:00:00Z'),
        invoice.number === undefined ? null : new Date('2026-12-02T09:00:00Z'),
        invoice.status === 'void' ? new Date('2026-11-05T09:00:00Z') : null,
      ],
    )
    await insertLines(client, organizationId, [{ invoiceId: id, revision: 1, lines: invoice.lines ?? [] }])
  })
  return id
}

/** A line of usage. */
export function usageLine(
  lineNo: number,
  description: string,
  amount: string,
  more: Partial<InvoiceLine> = {},
): InvoiceLine {
  return {
    lineNo,
    kind: 'usage',
    description,
    isLate: false,
    keys: {},
    events: 1,
    quantity: '1000',
    listCostUsd: '123.456',
    sellCostUsd: amount,
    conversions: [],
    exactAmount: amount,
    amount,
    ...more,
  }
}

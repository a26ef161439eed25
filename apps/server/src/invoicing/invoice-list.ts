import type { Invoice, InvoiceStatus } from '@tokentally/core'
import type { Pool } from 'pg'
import { invoiceOf, SELECT_INVOICES } from './invoice-store.ts'

export interface InvoiceQuery {
  readonly organizationId: string
  readonly customer: string | undefined
  readonly status: InvoiceStatus | undefined
  /** `YYYY-MM`: cycles that begin in that month, by the customer's own calendar. */
  readonly period: string | undefined
  readonly limit: number
  readonly after: { readonly createdAt: Date; readonly id: string } | undefined
}

/** Invoices, the newest first. */
export async function listInvoices(pool: Pool, query: InvoiceQuery): Promise<readonly Invoice[]> {
  const { rows } = await pool.query<Parameters<typeof invoiceOf>[0]>(
    `${SELECT_INVOICES}
     where invoice.organization_id = $1
       and ($2::text is null or invoice.customer_id = $2)
       and ($3::text is null or invoice.status = $3)
       and ($4::text is null or to_char(invoice.period_start at time zone (invoice.profile ->> 'timezone'), 'YYYY-MM') = $4)
       and ($5::timestamptz is null or (invoice.created_at, invoice.invoice_id) < ($5, $6::uuid))
     order by invoice.created_at desc, invoice.invoice_id desc
     limit $7`,
    [
      query.organizationId,
      query.customer ?? null,
      query.status ?? null,
      query.period ?? null,
      query.after?.createdAt ?? null,
      query.after?.id ?? null,
      query.limit,
    ],
  )
  return rows.map(invoiceOf)
}

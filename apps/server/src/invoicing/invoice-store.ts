import type { BillingProfile, Invoice, InvoiceDocument, InvoiceLine, InvoiceStatus } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'

/** Invoices and their lines in the database. */

interface InvoiceRow {
  readonly organization_id: string
  readonly invoice_id: string
  readonly customer_id: string
  readonly number: string | null
  readonly status: InvoiceStatus
  readonly reason: string | null
  readonly notes: readonly string[]
  readonly usage_since: Date
  readonly period_start: Date
  readonly period_end: Date
  readonly previous_position: string | null
  readonly position: string
  readonly currency: string
  readonly profile: BillingProfile
  readonly revision: number
  readonly total: string
  readonly credited: string
  readonly created_at: Date
  readonly finalized_at: Date | null
  readonly due_at: Date | null
  readonly paid_at: Date | null
  readonly voided_at: Date | null
}

interface LineRow {
  readonly line_no: number
  readonly kind: InvoiceLine['kind']
  readonly description: string
  readonly is_late: boolean
  readonly keys: InvoiceLine['keys']
  readonly events: string
  readonly quantity: string
  readonly list_cost_usd: string
  readonly sell_cost_usd: string
  readonly conversions: InvoiceLine['conversions']
  readonly exact_amount: string
  readonly amount: string
}

/** Reads invoices; `invoice` is the table's alias in conditions that are added. */
export const SELECT_INVOICES = `
  select invoice.organization_id, invoice.invoice_id, invoice.customer_id, invoice.number, invoice.status,
    invoice.reason, invoice.notes, invoice.usage_since, invoice.period_start, invoice.period_end,
    invoice.previous_position::text, invoice.position::text, invoice.currency, invoice.profile, invoice.revision,
    invoice.total::text, (
      select coalesce(sum(note.total), 0)::text
      from credit_note as note
      where note.organization_id = invoice.organization_id and note.invoice_id = invoice.invoice_id
        and note.voided_at is null
    ) as credited, invoice.created_at, invoice.finalized_at, invoice.due_at, invoice.paid_at, invoice.voided_at
  from invoice`

const SELECT_LINES = `
  select line_no, kind, description, is_late, keys, events::text, quantity::text, list_cost_usd::text,
    sell_cost_usd::text, conversions, exact_amount::text, amount::text
  from invoice_line
  where organization_id = $1 and invoice_id = $2 and revision = $3
  order by line_no`

/** @returns undefined when the organization has no such invoice */
export async function findInvoice(
  database: Pool | PoolClient,
  organizationId: string,
  invoiceId: string,
): Promise<Invoice | undefined> {
  const { rows } = await database.query<InvoiceRow>(
    `${SELECT_INVOICES} where invoice.organization_id = $1 and invoice.invoice_id::text = $2`,
    [organizationId, invoiceId],
  )
  return rows[0] === undefined ? undefined : invoiceOf(rows[0])
}

/** The invoice with the lines of its revision; undefined when the organization has no such invoice. */
export async function findInvoiceDocument(
  database: Pool | PoolClient,
  organizationId: string,
  invoiceId: string,
): Promise<InvoiceDocument | undefined> {
  const invoice = await findInvoice(database, organizationId, invoiceId)
  if (invoice === undefined) return undefined
  return { invoice, lines: await linesOf(database, invoice) }
}

/** The lines of an invoice's revision, in their order. */
export async function linesOf(
  database: Pool | PoolClient,
  { organizationId, id, revision }: Pick<Invoice, 'organizationId' | 'id' | 'revision'>,
): Promise<readonly InvoiceLine[]> {
  const { rows } = await database.query<LineRow>(SELECT_LINES, [organizationId, id, revision])
  return rows.map((row) => ({
    lineNo: row.line_no,
    kind: row.kind,
    description: row.description,
    isLate: row.is_late,
    keys: row.keys,
    events: Number(row.events),
    quantity: row.quantity,
    listCostUsd: row.list_cost_usd,
    sellCostUsd: row.sell_cost_usd,
    conversions: row.conversions,
    exactAmount: row.exact_amount,
    amount: row.amount,
  }))
}

/** The lines of a revision of an invoice. */
export interface RevisedLines {
  readonly invoiceId: string
  readonly revision: number
  readonly lines: readonly InvoiceLine[]
}

/** Writes the lines of revisions of an organization's invoices; lines are append-only. */
export async function insertLines(
  client: PoolClient,
  organizationId: string,
  revisions: readonly RevisedLines[],
): Promise<void> {
  const lines = revisions.flatMap(({ lines: all, ...owner }) => all.map((line) => ({ ...owner, ...line })))
  await client.query(
    `insert into invoice_line (organization_id, invoice_id, revision, line_no, kind, description, is_late, keys, events,
       quantity, list_cost_usd, sell_cost_usd, conversions, exact_amount, amount)
     select $1::uuid, *
     from unnest($2::uuid[], $3::int[], $4::int[], $5::text[], $6::text[], $7::boolean[], $8::jsonb[], $9::bigint[],
       $10::numeric[], $11::numeric[], $12::numeric[], $13::jsonb[], $14::numeric[], $15::numeric[])`,
    [
      organizationId,
      lines.map(({ invoiceId }) => invoiceId),
      lines.map(({ revision }) => revision),
      lines.map(({ lineNo }) => lineNo),
      lines.map(({ kind }) => kind),
      lines.map(({ description }) => description),
      lines.map(({ isLate }) => isLate),
      lines.map(({ keys }) => JSON.stringify(keys)),
      lines.map(({ events }) => events),
      lines.map(({ quantity }) => quantity),
      lines.map(({ listCostUsd }) => listCostUsd),
      lines.map(({ sellCostUsd }) => sellCostUsd),
      lines.map(({ conversions }) => JSON.stringify(conversions)),
      lines.map(({ exactAmount }) => exactAmount),
      lines.map(({ amount }) => amount),
    ],
  )
}

/** An invoice as `SELECT_INVOICES` reads it. */
export function invoiceOf(row: InvoiceRow): Invoice {
  return {
    organizationId: row.organization_id,
    id: row.invoice_id,
    customer: row.customer_id,
    number: row.number,
    status: row.status,
    reason: row.reason,
    notes: row.notes,
    selection: {
      sinceMs: row.usage_since.getTime(),
      startMs: row.period_start.getTime(),
      endMs: row.period_end.getTime(),
      previousPosition: row.previous_position === null ? null : Number(row.previous_position),
      position: Number(row.position),
    },
    currency: row.currency,
    profile: row.profile,
    revision: row.revision,
    total: row.total,
    credited: row.credited,
    createdAt: row.created_at,
    finalizedAt: row.finalized_at,
    dueAt: row.due_at,
    paidAt: row.paid_at,
    voidedAt: row.voided_at,
  }
}

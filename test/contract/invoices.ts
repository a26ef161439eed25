import { randomUUID } from 'node:crypto'
import {
  billingProfileSchema,
  decimal,
  decimalText,
  type InvoiceLine,
  type InvoiceStatus,
  LINE_DIMENSIONS,
  ZERO,
} from '@tokentally/core'
import type { Pool } from 'pg'
import type { z } from 'zod'
import { inTransaction } from '../../apps/server/src/database/transaction.ts'
import { takeNumbers } from '../../apps/server/src/invoicing/index.ts'
import { insertLines } from '../../apps/server/src/invoicing/invoice-store.ts'

/** Invoices as closing and finalizing leave them, without either, for tests of what comes after. */

type Profile = Partial<z.input<typeof billingProfileSchema>>

export interface NewInvoice {
  /** Default: the only one. */
  readonly organizationId?: string
  readonly customer: string
  /** Days of UTC; ends are excluded. Default: October 2026. */
  readonly start?: string
  readonly end?: string
  readonly since?: string
  /** Default: a draft. */
  readonly status?: InvoiceStatus
  /** Absent: it is not finalized. */
  readonly number?: string
  readonly lines?: readonly InvoiceLine[]
  /** Default: of its lines. */
  readonly total?: string
  readonly previousPosition?: number
  readonly position?: number
  readonly profile?: Profile
  readonly notes?: readonly string[]
  /** When it was created and finalized. */
  readonly at?: Date
}

const DAY_MS = 86_400_000

/** From the series that finalizing takes them from. */
async function nextNumber(pool: Pool, organizationId: string): Promise<string> {
  const year = new Date('2026-11-02T09:00:00Z')
  const [number = ''] = await inTransaction(pool, (client) =>
    takeNumbers(client, organizationId, 'INV', year, 1),
  )
  return number
}

/** The organization that the service has made at its first start. */
export async function onlyOrganization(pool: Pool): Promise<string> {
  const { rows } = await pool.query<{ id: string }>('select id from organization')
  return rows[0]?.id ?? ''
}

/** Writes an invoice. @returns its id */
export async function insertInvoice(pool: Pool, invoice: NewInvoice): Promise<string> {
  const id = randomUUID()
  const { status = 'draft', start = '2026-10-01', end = '2026-11-01', lines = [], number } = invoice
  const organizationId = invoice.organizationId ?? (await onlyOrganization(pool))
  const profile = billingProfileSchema.parse({ starts_on: '2026-01-01', ...invoice.profile })
  const total = decimalText(lines.reduce((sum, { amount }) => sum.plus(decimal(amount)), ZERO))
  const finalizedAt = invoice.at ?? new Date('2026-11-02T09:00:00Z')
  await inTransaction(pool, async (client) => {
    await client.query(
      `insert into invoice (organization_id, invoice_id, customer_id, number, status, reason, notes, usage_since,
         period_start, period_end, previous_position, position, currency, profile, revision, total, created_at,
         finalized_at, due_at, voided_at)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 1, $15, $16, $17, $18, $19)`,
      [
        organizationId,
        id,
        invoice.customer,
        number ?? null,
        status,
        status === 'blocked' ? 'a reason' : null,
        JSON.stringify(invoice.notes ?? []),
        new Date(invoice.since ?? start),
        new Date(start),
        new Date(end),
        invoice.previousPosition ?? null,
        invoice.position ?? 1,
        profile.currency,
        JSON.stringify(profile),
        invoice.total ?? total,
        invoice.at ?? new Date('2026-11-02T00:00:00Z'),
        number === undefined ? null : finalizedAt,
        number === undefined ? null : new Date(finalizedAt.getTime() + 30 * DAY_MS),
        status === 'void' ? new Date('2026-11-05T09:00:00Z') : null,
      ],
    )
    await insertLines(client, organizationId, [{ invoiceId: id, revision: 1, lines }])
  })
  return id
}

export interface OpenInvoice {
  readonly organizationId: string
  readonly customer: string
  readonly currency?: string
  /** One line each. */
  readonly amounts: readonly string[]
  readonly profile?: Profile
  readonly now: Date
}

/** Writes an open invoice. @returns its id */
export async function insertOpenInvoice(pool: Pool, wanted: OpenInvoice): Promise<string> {
  const { organizationId, customer, currency = 'USD', amounts, profile, now } = wanted
  return insertInvoice(pool, {
    ...{ organizationId, customer, at: now, status: 'open' },
    number: await nextNumber(pool, organizationId),
    profile: { currency, ...profile },
    lines: amounts.map((amount, index) =>
      usageLine(index + 1, `model-${index + 1}`, amount, {
        kind: decimal(amount).lt(ZERO) ? 'discount' : 'usage',
        listCostUsd: amount,
      }),
    ),
  })
}

export interface ClosedInvoice {
  readonly customer: string
  readonly start?: string
  readonly end?: string
  readonly since?: string
  readonly lines: readonly (Partial<InvoiceLine> & { readonly amount: string })[]
  readonly status?: InvoiceStatus
  readonly currency?: string
  readonly profile?: Profile
}

/** Takes the next position, writes it on all batches, and writes the invoice, by default an open one. @returns its id */
export async function insertFinalizedInvoice(pool: Pool, wanted: ClosedInvoice): Promise<string> {
  const { customer, lines, status = 'open', currency = 'USD', profile, ...cycle } = wanted
  const organizationId = await onlyOrganization(pool)
  const { rows } = await pool.query<{ position: number; previous: number | null }>(
    `with taken as (
       insert into ledger_position (organization_id, position, taken_at)
       select $1, coalesce(max(position), 0) + 1, now() from ledger_position where organization_id = $1
       returning position
     ), frozen as (
       update ledger_batch set position = taken.position
       from taken where organization_id = $1 and ledger_batch.position is null
     )
     select position::int, (
       select max(position)::int from invoice where organization_id = $1 and customer_id = $2
     ) as previous
     from taken`,
    [organizationId, customer],
  )
  const [{ position = 1, previous = null } = {}] = rows
  const isFinal = !['pending', 'draft', 'blocked'].includes(status)
  const keys = Object.keys(lines[0]?.keys ?? {})
  return insertInvoice(pool, {
    ...{ organizationId, customer, status, position, at: new Date(), ...cycle },
    ...(previous !== null && { previousPosition: previous }),
    ...(isFinal && { number: await nextNumber(pool, organizationId) }),
    profile: { currency, lines_by: LINE_DIMENSIONS.filter((name) => keys.includes(name)), ...profile },
    lines: lines.map((line, index) =>
      usageLine(index + 1, `line ${index + 1}`, line.amount, { quantity: '1', sellCostUsd: '0', ...line }),
    ),
  })
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

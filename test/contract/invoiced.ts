import { randomUUID } from 'node:crypto'
import { billingProfileSchema } from '@tokentally/core'
import type { Pool } from 'pg'
import type { z } from 'zod'

/** Finalized invoices, as the closing of a cycle and the finalization leave them, without either. */

export interface FinalizedInvoice {
  readonly customer: string
  /** The cycle; ends are excluded. Default: October 2026. */
  readonly start?: string
  readonly end?: string
  readonly since?: string
  readonly lines: readonly {
    readonly amount: string
    readonly kind?: string
    readonly keys?: Readonly<Record<string, string | null>>
    readonly isLate?: boolean
    readonly conversions?: readonly object[]
  }[]
  readonly status?: string
  readonly currency?: string
  readonly profile?: Partial<z.input<typeof billingProfileSchema>>
}

let written = 0

/** The organization that the service has made at its first start. */
export async function onlyOrganization(pool: Pool): Promise<string> {
  const { rows } = await pool.query<{ id: string }>('select id from organization')
  return rows[0]?.id ?? ''
}

/** Takes the next position, writes it on all batches, and writes the invoice. @returns its id */
export async function insertFinalizedInvoice(pool: Pool, wanted: FinalizedInvoice): Promise<string> {
  const organizationId = await onlyOrganization(pool)
  const id = randomUUID()
  const { currency = 'USD', status = 'open', start = '2026-10-01', end = '2026-11-01' } = wanted
  const { rows } = await pool.query<{ position: string; previous: string | null }>(
    `with taken as (
       insert into ledger_position (organization_id, position, taken_at)
       select $1, coalesce(max(position), 0) + 1, now() from ledger_position where organization_id = $1
       returning position
     ), frozen as (
       update ledger_batch set position = taken.position
       from taken where organization_id = $1 and ledger_batch.position is null
     )
     select position::text, (
       select max(position)::text from invoice where organization_id = $1 and customer_id = $2
     ) as previous
     from taken`,
    [organizationId, wanted.customer],
  )
  written += 1
  const profile = billingProfileSchema.parse({
    starts_on: '2026-10-01',
    currency,
    lines_by: Object.keys(wanted.lines[0]?.keys ?? {}),
    ...wanted.profile,
  })
  const isFinal = !['pending', 'draft', 'blocked'].includes(status)
  await pool.query(
    `insert into invoice (organization_id, invoice_id, customer_id, number, status, usage_since, period_start,
       period_end, previous_position, position, currency, profile, total, created_at, finalized_at, due_at)
     select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, (
       select coalesce(sum(amount::numeric), 0) from unnest($13::text[]) as amount
     ), now(), $14, $14`,
    [
      organizationId,
      id,
      wanted.customer,
      isFinal ? `INV-2025-${String(written).padStart(6, '0')}` : null,
      status,
      wanted.since ?? start,
      start,
      end,
      rows[0]?.previous ?? null,
      rows[0]?.position,
      currency,
      JSON.stringify(profile),
      wanted.lines.map(({ amount }) => amount),
      isFinal ? new Date() : null,
    ],
  )
  for (const [index, line] of wanted.lines.entries()) {
    await pool.query(
      `insert into invoice_line (organization_id, invoice_id, revision, line_no, kind, description, is_late, keys, events,
         quantity, list_cost_usd, sell_cost_usd, conversions, exact_amount, amount)
       values ($1, $2, 0, $3, $4, $5, $6, $7, 1, 1, 0, 0, $8, $9, $9)`,
      [
        organizationId,
        id,
        index + 1,
        line.kind ?? 'usage',
        `line ${index + 1}`,
        line.isLate ?? false,
        JSON.stringify(line.keys ?? {}),
        JSON.stringify(line.conversions ?? []),
        line.amount,
      ],
    )
  }
  return id
}

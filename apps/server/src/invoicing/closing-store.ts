import {
  type BillingProfile,
  billingProfileSchema,
  type Cycle,
  type InvoiceSelection,
} from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { holdOffRollups } from '../rollups/index.ts'

/** What the closing of cycles reads and writes. */

/** A customer who is invoiced, and where the last closed cycle ended. */
export interface BilledCustomer {
  readonly customer: string
  readonly profile: BillingProfile
  /** Of the last closed cycle; undefined: none was. */
  readonly last: { readonly invoiceId: string; readonly selection: InvoiceSelection } | undefined
}

interface BilledRow {
  readonly customer_id: string
  readonly definition: unknown
  readonly invoice_id: string | null
  readonly usage_since: Date
  readonly period_start: Date
  readonly period_end: Date
  readonly previous_position: string | null
  readonly position: string
}

/** @param customers null: all that have a billing profile */
export async function listBilledCustomers(
  database: Pool | PoolClient,
  organizationId: string,
  customers: readonly string[] | null,
): Promise<readonly BilledCustomer[]> {
  const { rows } = await database.query<BilledRow>(
    `select profile.customer_id, profile.definition, last.*
     from billing_profile as profile
     left join lateral (
       select invoice_id, usage_since, period_start, period_end, previous_position::text, position::text
       from invoice
       where organization_id = profile.organization_id and customer_id = profile.customer_id
         and replaces_invoice_id is null
       order by period_start desc
       limit 1
     ) as last on true
     where profile.organization_id = $1 and ($2::text[] is null or profile.customer_id = any($2))
     order by profile.customer_id`,
    [organizationId, customers],
  )
  return rows.map((row) => ({
    customer: row.customer_id,
    profile: billingProfileSchema.parse(row.definition),
    last:
      row.invoice_id === null
        ? undefined
        : {
            invoiceId: row.invoice_id,
            selection: {
              sinceMs: row.usage_since.getTime(),
              startMs: row.period_start.getTime(),
              endMs: row.period_end.getTime(),
              previousPosition: row.previous_position === null ? null : Number(row.previous_position),
              position: Number(row.position),
            },
          },
  }))
}

const TAKE_POSITION = `
  with taken as (
    insert into ledger_position (organization_id, position, taken_at)
    select $1, coalesce(max(position), 0) + 1, $2
    from ledger_position
    where organization_id = $1
    returning position
  ), placed as (
    update ledger_batch
    set position = taken.position
    from taken
    where ledger_batch.organization_id = $1 and ledger_batch.position is null
  )
  select position::text from taken`

/**
 * Takes the organization's next position: what is committed by now, and has none, is at it for good. One at a time,
 * within the caller's transaction.
 */
export async function takePosition(client: PoolClient, organizationId: string, now: Date): Promise<number> {
  await client.query("select pg_advisory_xact_lock(hashtext('tokentally.ledger_position'), hashtext($1))", [
    organizationId,
  ])
  await holdOffRollups(client)
  const { rows } = await client.query<{ position: string }>(TAKE_POSITION, [organizationId, now])
  return Number(rows[0]?.position)
}

/** A cycle that is to be closed. */
export interface PendingInvoice {
  readonly id: string
  readonly customer: string
  readonly profile: BillingProfile
  readonly selection: InvoiceSelection
  /** The voided invoice that it stands in for; null: the first of its cycle. */
  readonly replaces: string | null
}

/**
 * Writes invoices whose lines are not computed yet. One that is there already stays: a cycle is closed once, and a
 * voided invoice replaced once.
 *
 * @returns the ids that were written
 */
export async function insertPending(
  client: PoolClient,
  organizationId: string,
  invoices: readonly PendingInvoice[],
  now: Date,
): Promise<readonly string[]> {
  const { rows } = await client.query<{ invoice_id: string }>(
    `insert into invoice (organization_id, invoice_id, customer_id, status, usage_since, period_start, period_end,
       previous_position, position, replaces_invoice_id, currency, profile, created_at)
     select $1::uuid, given.invoice_id, given.customer_id, 'pending', given.usage_since, given.period_start,
       given.period_end, given.previous_position, given.position, given.replaces, given.currency, given.profile, $11
     from unnest($2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[], $7::bigint[],
       $8::bigint[], $9::uuid[], $10::text[], $12::jsonb[])
       as given (invoice_id, customer_id, usage_since, period_start, period_end, previous_position, position, replaces,
         currency, profile)
     on conflict (organization_id, customer_id, period_start, replaces_invoice_id) do nothing
     returning invoice_id`,
    [
      organizationId,
      invoices.map(({ id }) => id),
      invoices.map(({ customer }) => customer),
      invoices.map(({ selection }) => new Date(selection.sinceMs)),
      invoices.map(({ selection }) => new Date(selection.startMs)),
      invoices.map(({ selection }) => new Date(selection.endMs)),
      invoices.map(({ selection }) => selection.previousPosition),
      invoices.map(({ selection }) => selection.position),
      invoices.map(({ replaces }) => replaces),
      invoices.map(({ profile }) => profile.currency),
      now,
      invoices.map(({ profile }) => JSON.stringify(profile)),
    ],
  )
  return rows.map(({ invoice_id }) => invoice_id)
}

/** What the invoices of cycles that follow each other select, at one position. */
export function selectionsOf(
  last: InvoiceSelection | undefined,
  cycles: readonly Cycle[],
  position: number,
): readonly InvoiceSelection[] {
  const sinceMs = last?.sinceMs ?? cycles[0]?.startMs ?? 0
  return cycles.map((cycle, index) => ({
    sinceMs,
    ...cycle,
    previousPosition: index === 0 ? (last?.position ?? null) : position,
    position,
  }))
}

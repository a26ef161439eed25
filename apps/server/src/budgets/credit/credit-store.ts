import { randomUUID } from 'node:crypto'
import { decimalText, ZERO } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { z } from 'zod'
import { spendingBy } from '../spending.ts'
import type { AutoRefill } from './balance.ts'

/** What was paid in or adjusted. */
export interface CreditEntry {
  readonly id: string
  readonly kind: 'top_up' | 'adjustment' | 'auto_refill'
  /** US dollars, exact decimal text; negative only for adjustments. */
  readonly amountUsd: string
  readonly note: string | null
  readonly idempotencyKey: string
  readonly createdAt: Date
}

/** An entry about to be made. */
export interface NewCreditEntry {
  readonly organizationId: string
  readonly customer: string
  readonly kind: CreditEntry['kind']
  readonly amountUsd: string
  readonly note: string | null
  /** A repeat with the same key is the same entry. */
  readonly idempotencyKey: string
  /** Null: the service made it itself. */
  readonly apiKeyId: string | null
  readonly at: Date
}

const entryRow = z.object({
  entry_id: z.string(),
  kind: z.enum(['top_up', 'adjustment', 'auto_refill']),
  amount_usd: z.string(),
  note: z.string().nullable(),
  idempotency_key: z.string(),
  created_at: z.date(),
})
const ENTRY = 'entry_id, kind, trim_scale(amount_usd)::text as amount_usd, note, idempotency_key, created_at'
const DAY_MS = 24 * 3_600_000
/** Usage may be dated ahead of the clock by as much as this. */
const AHEAD_MS = 2 * DAY_MS

/**
 * Switches a customer's credit on, unless it is. What the ledger has of the customer by now does not count; what
 * it gets from now on does, from the beginning of this UTC day.
 */
export async function openAccount(
  client: PoolClient,
  organizationId: string,
  customer: string,
  at: Date,
): Promise<void> {
  const startMs = Math.floor(at.getTime() / DAY_MS) * DAY_MS
  const { rowCount } = await client.query(
    'select from credit_account where organization_id = $1 and customer_id = $2',
    [organizationId, customer],
  )
  if ((rowCount ?? 0) > 0) return
  const spent = await spendingBy(client, {
    organizationId,
    dimension: 'customer',
    period: { startMs, endMs: at.getTime() + AHEAD_MS },
    values: [customer],
  })
  await client.query(
    `insert into credit_account (organization_id, customer_id, start_day, used_before_usd, started_at, updated_at)
     values ($1, $2, $3, $4, $5, $5)
     on conflict do nothing`,
    [organizationId, customer, new Date(startMs), decimalText(spent.get(customer)?.sellUsd ?? ZERO), at],
  )
}

/**
 * Makes an entry once.
 *
 * @returns the entry of this key, and whether it is new; one that stands may be another than was asked for
 */
export async function insertEntry(
  client: PoolClient,
  entry: NewCreditEntry,
): Promise<{ readonly entry: CreditEntry; readonly isNew: boolean }> {
  const inserted = await client.query(
    `insert into credit_entry (
       organization_id, customer_id, entry_id, kind, amount_usd, idempotency_key, note, api_key_id, created_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
     on conflict (organization_id, customer_id, idempotency_key) do nothing
     returning ${ENTRY}`,
    [
      entry.organizationId,
      entry.customer,
      randomUUID(),
      entry.kind,
      entry.amountUsd,
      entry.idempotencyKey,
      entry.note,
      entry.apiKeyId,
      entry.at,
    ],
  )
  if (inserted.rows.length > 0) return { entry: entryOf(inserted.rows[0]), isNew: true }
  const standing = await client.query(
    `select ${ENTRY} from credit_entry
     where organization_id = $1 and customer_id = $2 and idempotency_key = $3`,
    [entry.organizationId, entry.customer, entry.idempotencyKey],
  )
  return { entry: entryOf(standing.rows[0]), isNew: false }
}

/** A customer's entries, newest first. */
export async function listEntries(
  pool: Pool,
  organizationId: string,
  customer: string,
  limit: number,
): Promise<readonly CreditEntry[]> {
  const { rows } = await pool.query(
    `select ${ENTRY} from credit_entry
     where organization_id = $1 and customer_id = $2
     order by sequence desc
     limit $3`,
    [organizationId, customer, limit],
  )
  return rows.map(entryOf)
}

/** Sets or removes the rule by which an account tops itself up. @returns whether there is an account */
export async function setAutoRefill(
  client: PoolClient,
  organizationId: string,
  customer: string,
  refill: AutoRefill | null,
  at: Date,
): Promise<boolean> {
  const { rowCount } = await client.query(
    `update credit_account set auto_refill = $3, updated_at = $4
     where organization_id = $1 and customer_id = $2`,
    [
      organizationId,
      customer,
      refill === null
        ? null
        : { threshold: refill.thresholdUsd, amount: refill.amountUsd, max_per_month: refill.maxPerMonth },
      at,
    ],
  )
  return rowCount === 1
}

/** The organizations in which some account tops itself up. */
export async function organizationsWithRefills(pool: Pool): Promise<readonly string[]> {
  const { rows } = await pool.query<{ organization_id: string }>(
    'select distinct organization_id from credit_account where auto_refill is not null order by 1',
  )
  return rows.map((row) => row.organization_id)
}

/** How often an account topped itself up from an instant on. */
export async function countRefills(
  client: PoolClient,
  organizationId: string,
  customer: string,
  from: Date,
): Promise<number> {
  const { rows } = await client.query<{ refills: number }>(
    `select count(*)::int as refills from credit_entry
     where organization_id = $1 and customer_id = $2 and kind = 'auto_refill' and created_at >= $3`,
    [organizationId, customer, from],
  )
  return rows[0]?.refills ?? 0
}

function entryOf(row: unknown): CreditEntry {
  const parsed = entryRow.parse(row)
  return {
    id: parsed.entry_id,
    kind: parsed.kind,
    amountUsd: parsed.amount_usd,
    note: parsed.note,
    idempotencyKey: parsed.idempotency_key,
    createdAt: parsed.created_at,
  }
}

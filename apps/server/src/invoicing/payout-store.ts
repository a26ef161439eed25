import { PAYOUT_ORDER, supersedes } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import type { CreatedPosition } from './credit-note-store.ts'

/** Payouts in the database. */

export const PAYOUT_STATUSES = ['pending', 'in_transit', 'paid', 'failed', 'canceled'] as const
export type PayoutStatus = (typeof PAYOUT_STATUSES)[number]

export interface Payout {
  readonly id: string
  readonly recipient: string
  /** Decimal text. */
  readonly amount: string
  readonly currency: string
  readonly status: PayoutStatus
  readonly failureReason: string | null
  readonly externalId: string | null
  readonly periodStart: Date | null
  readonly periodEnd: Date | null
  readonly note: string | null
  /** `YYYY-MM-DD` */
  readonly arrivalDate: string | null
  readonly requestHash: Buffer
  readonly createdAt: Date
  readonly updatedAt: Date
}

interface PayoutRow {
  readonly payout_id: string
  readonly recipient: string
  readonly amount: string
  readonly currency: string
  readonly status: PayoutStatus
  readonly failure_reason: string | null
  readonly external_id: string | null
  readonly period_start: Date | null
  readonly period_end: Date | null
  readonly note: string | null
  readonly arrival_date: string | null
  readonly request_hash: Buffer
  readonly created_at: Date
  readonly updated_at: Date
}

const SELECT_PAYOUTS = `
  select payout_id, recipient, amount::text, currency, status, failure_reason, external_id, period_start, period_end,
    note, arrival_date::text, request_hash, created_at, updated_at
  from payout`

function payoutOf(row: PayoutRow): Payout {
  return {
    id: row.payout_id,
    recipient: row.recipient,
    amount: row.amount,
    currency: row.currency,
    status: row.status,
    failureReason: row.failure_reason,
    externalId: row.external_id,
    periodStart: row.period_start,
    periodEnd: row.period_end,
    note: row.note,
    arrivalDate: row.arrival_date,
    requestHash: row.request_hash,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  }
}

/** @returns undefined when the organization has no such payout */
export async function findPayout(
  database: Pool | PoolClient,
  organizationId: string,
  by: { readonly id: string } | { readonly externalId: string } | { readonly idempotencyKey: string },
): Promise<Payout | undefined> {
  const [column, value] =
    'id' in by
      ? ['payout_id::text', by.id.toLowerCase()]
      : 'externalId' in by
        ? ['external_id', by.externalId]
        : ['idempotency_key', by.idempotencyKey]
  const { rows } = await database.query<PayoutRow>(
    `${SELECT_PAYOUTS} where organization_id = $1 and ${column} = $2`,
    [organizationId, value],
  )
  return rows[0] === undefined ? undefined : payoutOf(rows[0])
}

/** Payouts, newest first. */
export async function listPayouts(
  pool: Pool,
  request: {
    readonly organizationId: string
    readonly recipient: string | undefined
    readonly status: PayoutStatus | undefined
    /** Whose period touches this one; ends are excluded. */
    readonly start: Date | undefined
    readonly end: Date | undefined
    readonly after: CreatedPosition | undefined
    readonly limit: number
  },
): Promise<readonly Payout[]> {
  const { organizationId, recipient, status, start, end, after, limit } = request
  const { rows } = await pool.query<PayoutRow>(
    `${SELECT_PAYOUTS}
     where organization_id = $1
       and ($2::text is null or recipient = $2)
       and ($3::text is null or status = $3)
       and ($4::timestamptz is null or period_end > $4)
       and ($5::timestamptz is null or period_start < $5)
       and ($6::timestamptz is null or (created_at, payout_id) < ($6, $7::uuid))
     order by created_at desc, payout_id desc
     limit $8`,
    [
      organizationId,
      recipient ?? null,
      status ?? null,
      start ?? null,
      end ?? null,
      after === undefined ? null : new Date(after.createdAtMs),
      after?.id ?? null,
      limit,
    ],
  )
  return rows.map(payoutOf)
}

export interface NewPayout extends Omit<Payout, 'failureReason' | 'updatedAt'> {
  readonly idempotencyKey: string
  readonly apiKeyId: string
}

/** @returns false when the key or the external id is taken; nothing is written then */
export async function insertPayout(
  client: PoolClient,
  organizationId: string,
  payout: NewPayout,
): Promise<boolean> {
  const { rowCount } = await client.query(
    `insert into payout (organization_id, payout_id, recipient, amount, currency, status, external_id, period_start,
       period_end, note, arrival_date, idempotency_key, request_hash, api_key_id, created_at, updated_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15)
     on conflict do nothing`,
    [
      organizationId,
      payout.id,
      payout.recipient,
      payout.amount,
      payout.currency,
      payout.status,
      payout.externalId,
      payout.periodStart,
      payout.periodEnd,
      payout.note,
      payout.arrivalDate,
      payout.idempotencyKey,
      payout.requestHash,
      payout.apiKeyId,
      payout.createdAt,
    ],
  )
  return rowCount === 1
}

/** What Stripe says of a payout or transfer. */
export interface PayoutMessage {
  readonly status: PayoutStatus
  readonly failureReason: string | null
  /** `YYYY-MM-DD` */
  readonly arrivalDate: string | null
  readonly externalId: string
  readonly at: Date
}

/** Moves a payout to the status that Stripe says it has. @returns whether it stands now */
export async function applyPayoutMessage(
  client: PoolClient,
  organizationId: string,
  payoutId: string,
  message: PayoutMessage,
): Promise<boolean> {
  const { rows } = await client.query<{ status: string; status_at: Date | null }>(
    'select status, status_at from payout where organization_id = $1 and payout_id = $2 for no key update',
    [organizationId, payoutId],
  )
  const [standing] = rows
  if (standing === undefined) return false
  const { status, at } = message
  const isNext = supersedes(
    PAYOUT_ORDER,
    { status, atMs: at.getTime() },
    { status: standing.status, atMs: standing.status_at?.getTime() ?? null },
  )
  if (!isNext) return false
  await client.query(
    `update payout
     set status = $3, status_at = $4, updated_at = $4, failure_reason = $5, arrival_date = coalesce($6, arrival_date),
       external_id = coalesce(external_id, $7)
     where organization_id = $1 and payout_id = $2`,
    [organizationId, payoutId, status, at, message.failureReason, message.arrivalDate, message.externalId],
  )
  return true
}

import type { Pool, PoolClient } from 'pg'
import { type Message, messageSchema } from './message.ts'

export type DeliveryState = 'pending' | 'delivered' | 'failed'

interface DeliveryRow {
  readonly organization_id: string
  readonly delivery_id: string
  readonly channel_id: string
  readonly alert_id: string | null
  readonly cause: string
  readonly message: unknown
  readonly state: DeliveryState
  readonly attempts: number
  readonly created_at: Date
  readonly next_attempt_at: Date | null
  readonly last_attempt_at: Date | null
  readonly status_code: number | null
  readonly error: string | null
}

/** One message on its way to one channel, and afterwards the record of it. */
export interface Delivery {
  readonly organizationId: string
  readonly id: string
  readonly channelId: string
  readonly alertId: string | null
  readonly cause: string
  readonly message: Message
  readonly state: DeliveryState
  readonly attempts: number
  readonly createdAt: Date
  readonly nextAttemptAt: Date | null
  readonly lastAttemptAt: Date | null
  readonly statusCode: number | null
  readonly error: string | null
}

function deliveryOf(row: DeliveryRow): Delivery {
  return {
    organizationId: row.organization_id,
    id: row.delivery_id,
    channelId: row.channel_id,
    alertId: row.alert_id,
    cause: row.cause,
    message: messageSchema.parse(row.message),
    state: row.state,
    attempts: row.attempts,
    createdAt: row.created_at,
    nextAttemptAt: row.next_attempt_at,
    lastAttemptAt: row.last_attempt_at,
    statusCode: row.status_code,
    error: row.error,
  }
}

export interface NewDelivery {
  readonly organizationId: string
  readonly id: string
  readonly channelId: string
  readonly alertId: string | null
  /** What brought it about; with channel and alert it is unique, so that nothing is told twice. */
  readonly cause: string
  readonly message: Message
}

/** Writes what is to be sent; in the transaction of what it tells of. */
export async function insertDeliveries(
  database: Pool | PoolClient,
  deliveries: readonly NewDelivery[],
  now: Date,
): Promise<void> {
  if (deliveries.length === 0) return
  await database.query(
    `insert into notification_delivery (organization_id, delivery_id, channel_id, alert_id, cause, message, state,
       created_at, next_attempt_at)
     select delivery.*, 'pending', $7, $7
     from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::jsonb[]) as delivery
     on conflict on constraint notification_delivery_once do nothing`,
    [
      deliveries.map(({ organizationId }) => organizationId),
      deliveries.map(({ id }) => id),
      deliveries.map(({ channelId }) => channelId),
      deliveries.map(({ alertId }) => alertId),
      deliveries.map(({ cause }) => cause),
      deliveries.map(({ message }) => JSON.stringify(message)),
      now,
    ],
  )
}

export interface DeliveryId {
  readonly organizationId: string
  readonly deliveryId: string
}

/**
 * Takes a delivery that is due, so that no other worker sends it until the lease ends. A worker that dies keeps
 * it only that long.
 *
 * @returns undefined when it is not due, done, or being sent by another worker
 */
export async function claimDelivery(
  pool: Pool,
  { organizationId, deliveryId }: DeliveryId,
  now: Date,
  leaseMs: number,
): Promise<Delivery | undefined> {
  const { rows } = await pool.query<DeliveryRow>(
    `update notification_delivery
     set leased_until = $4, attempts = attempts + 1, last_attempt_at = $3
     where organization_id = $1 and delivery_id = $2 and state = 'pending' and next_attempt_at <= $3
       and (leased_until is null or leased_until <= $3)
     returning *`,
    [organizationId, deliveryId, now, new Date(now.getTime() + leaseMs)],
  )
  return rows[0] === undefined ? undefined : deliveryOf(rows[0])
}

export interface AttemptResult {
  readonly state: DeliveryState
  readonly nextAttemptAt: Date | null
  readonly statusCode: number | null
  readonly error: string | null
}

/** Writes how an attempt went, unless another worker has made a later one meanwhile. */
export async function settleDelivery(
  pool: Pool,
  { organizationId, id, attempts }: Delivery,
  result: AttemptResult,
): Promise<void> {
  await pool.query(
    `update notification_delivery
     set state = $4, next_attempt_at = $5, status_code = $6, error = $7, leased_until = null
     where organization_id = $1 and delivery_id = $2 and attempts = $3 and state = 'pending'`,
    [organizationId, id, attempts, result.state, result.nextAttemptAt, result.statusCode, result.error],
  )
}

/** What is due and nobody sends, the longest waiting first. */
export async function listDue(pool: Pool, now: Date, limit: number): Promise<readonly DeliveryId[]> {
  const { rows } = await pool.query<{ organization_id: string; delivery_id: string }>(
    `select organization_id, delivery_id from notification_delivery
     where next_attempt_at <= $1 and (leased_until is null or leased_until <= $1)
     order by next_attempt_at
     limit $2`,
    [now, limit],
  )
  return rows.map((row) => ({ organizationId: row.organization_id, deliveryId: row.delivery_id }))
}

export interface DeliveryQuery {
  readonly organizationId: string
  readonly channelId: string
  readonly limit: number
  readonly after: { readonly createdAt: Date; readonly id: string } | undefined
}

/** A channel's deliveries, newest first. */
export async function listDeliveries(pool: Pool, query: DeliveryQuery): Promise<readonly Delivery[]> {
  const { rows } = await pool.query<DeliveryRow>(
    `select * from notification_delivery
     where organization_id = $1 and channel_id = $2
       and ($3::timestamptz is null or (created_at, delivery_id) < ($3, $4::uuid))
     order by created_at desc, delivery_id desc
     limit $5`,
    [
      query.organizationId,
      query.channelId,
      query.after?.createdAt ?? null,
      query.after?.id ?? null,
      query.limit,
    ],
  )
  return rows.map(deliveryOf)
}

export async function findDelivery(
  pool: Pool,
  { organizationId, deliveryId }: DeliveryId,
): Promise<Delivery | undefined> {
  const { rows } = await pool.query<DeliveryRow>(
    'select * from notification_delivery where organization_id = $1 and delivery_id = $2',
    [organizationId, deliveryId],
  )
  return rows[0] === undefined ? undefined : deliveryOf(rows[0])
}

/** Forgets the log of deliveries that ended before a time. */
export async function trimDeliveries(pool: Pool, before: Date): Promise<void> {
  await pool.query("delete from notification_delivery where state <> 'pending' and created_at < $1", [before])
}

import type { Pool, PoolClient } from 'pg'
import { alertKindsOf, type Channel, type ChannelFilter, type ChannelKind } from './channel.ts'

interface ChannelRow {
  readonly organization_id: string
  readonly channel_id: string
  readonly kind: ChannelKind
  readonly name: string
  readonly target: Buffer
  readonly target_shown: string
  readonly secret: Buffer | null
  readonly alert_kinds: readonly string[] | null
  readonly budget_ids: readonly string[] | null
  readonly scopes: readonly string[] | null
  readonly min_threshold: string | null
  readonly enabled: boolean
  readonly created_at: Date
  readonly updated_at: Date
}

/** A channel with what is sealed of it. */
export interface StoredChannel extends Channel {
  readonly sealedTarget: Buffer
  /** Of webhooks alone. */
  readonly sealedSecret: Buffer | null
}

function channelOf(row: ChannelRow): StoredChannel {
  return {
    organizationId: row.organization_id,
    id: row.channel_id,
    kind: row.kind,
    name: row.name,
    targetShown: row.target_shown,
    sealedTarget: row.target,
    sealedSecret: row.secret,
    alertKinds: row.alert_kinds === null ? null : alertKindsOf(row.alert_kinds),
    budgetIds: row.budget_ids,
    scopes: row.scopes,
    minThreshold: row.min_threshold === null ? null : Number(row.min_threshold),
    enabled: row.enabled,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  }
}

/** All channels of an organization, by name; there are at most `CHANNELS_MAX`. */
export async function listChannels(
  database: Pool | PoolClient,
  organizationId: string,
): Promise<readonly StoredChannel[]> {
  const { rows } = await database.query<ChannelRow>(
    'select * from notification_channel where organization_id = $1 order by name',
    [organizationId],
  )
  return rows.map(channelOf)
}

export async function findChannel(
  pool: Pool,
  organizationId: string,
  id: string,
): Promise<StoredChannel | undefined> {
  const { rows } = await pool.query<ChannelRow>(
    'select * from notification_channel where organization_id = $1 and channel_id = $2',
    [organizationId, id],
  )
  return rows[0] === undefined ? undefined : channelOf(rows[0])
}

export interface ChannelValues extends ChannelFilter {
  readonly organizationId: string
  readonly id: string
  readonly kind: ChannelKind
  readonly name: string
  readonly sealedTarget: Buffer
  readonly targetShown: string
  readonly sealedSecret: Buffer | null
  readonly enabled: boolean
}

/** What became of writing a channel. */
export type ChannelWrite = StoredChannel | 'name_taken'

const COLUMNS = `name, target, target_shown, secret, alert_kinds, budget_ids, scopes, min_threshold, enabled, updated_at`

function parametersOf(values: ChannelValues, now: Date): unknown[] {
  return [
    values.organizationId,
    values.id,
    values.name,
    values.sealedTarget,
    values.targetShown,
    values.sealedSecret,
    values.alertKinds,
    values.budgetIds,
    values.scopes,
    values.minThreshold,
    values.enabled,
    now,
  ]
}

export async function insertChannel(pool: Pool, values: ChannelValues, now: Date): Promise<ChannelWrite> {
  return unlessTaken(async () => {
    const { rows } = await pool.query<ChannelRow>(
      `insert into notification_channel (organization_id, channel_id, ${COLUMNS}, kind, created_at)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $12)
       returning *`,
      [...parametersOf(values, now), values.kind],
    )
    return rows
  })
}

/** Writes all but the kind of a channel. @throws when it is gone */
export async function updateChannel(pool: Pool, values: ChannelValues, now: Date): Promise<ChannelWrite> {
  return unlessTaken(async () => {
    const { rows } = await pool.query<ChannelRow>(
      `update notification_channel
       set (${COLUMNS}) = row($3, $4, $5, $6, $7::text[], $8::text[], $9::text[], $10::numeric, $11::boolean,
         $12::timestamptz)
       where organization_id = $1 and channel_id = $2
       returning *`,
      parametersOf(values, now),
    )
    return rows
  })
}

async function unlessTaken(write: () => Promise<readonly ChannelRow[]>): Promise<ChannelWrite> {
  try {
    const [row] = await write()
    if (row === undefined) throw new Error('The channel is gone.')
    return channelOf(row)
  } catch (error) {
    if (error instanceof Error && 'constraint' in error && error.constraint === 'notification_channel_name') {
      return 'name_taken'
    }
    throw error
  }
}

/** Removes a channel with its deliveries. @returns whether it was there */
export async function deleteChannel(pool: Pool, organizationId: string, id: string): Promise<boolean> {
  const { rows } = await pool.query(
    `with channel as (
       delete from notification_channel where organization_id = $1 and channel_id = $2 returning channel_id
     ), deliveries as (
       delete from notification_delivery where organization_id = $1 and channel_id = $2
     )
     select channel_id from channel`,
    [organizationId, id],
  )
  return rows.length > 0
}

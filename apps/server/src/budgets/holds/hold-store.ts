import { type BudgetDimension, type Decimal, decimal, decimalText, isBudgetDimension } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { z } from 'zod'
import { dimensionOf, SqlParameters } from '../../reports/index.ts'
import { EVERYBODY } from '../spending.ts'

/** Whom a hold is for: what the event of its call will carry. */
export interface HoldDimensions {
  readonly customer_id?: string | undefined
  readonly user_id?: string | undefined
  readonly team_id?: string | undefined
  readonly project_id?: string | undefined
  readonly business_unit?: string | undefined
  readonly cost_center?: string | undefined
  readonly feature?: string | undefined
  readonly agent?: string | undefined
  readonly environment?: string | undefined
  readonly provider: string
  readonly model?: string | undefined
  readonly api_key_id: string
  readonly tags?: Readonly<Record<string, string>> | undefined
}

const boundSchema = z.object({
  from: z.enum(['prices', 'estimate', 'unpriced']),
  input_tokens: z.number().nullable(),
  input_from: z.enum(['request', 'learned', 'default']).nullable(),
  output_tokens: z.number().nullable(),
  output_from: z.enum(['request', 'learned', 'default']).nullable(),
})

/** How the amount of a hold came about. */
export type Bound = z.infer<typeof boundSchema>

/** A hold about to be placed. */
export interface NewHold {
  readonly id: string
  readonly eventId: string
  readonly dimensions: HoldDimensions
  readonly listUsd: Decimal
  readonly sellUsd: Decimal
  readonly bound: Bound
  readonly createdAt: Date
  readonly expiresAt: Date
}

/** A hold as it is stored. */
export interface Hold {
  readonly id: string
  readonly eventId: string
  readonly listUsd: string
  readonly sellUsd: string
  readonly settledSellUsd: string | null
  readonly bound: Bound
  readonly createdAt: Date
  readonly expiresAt: Date
  readonly releasedAt: Date | null
  readonly settledAt: Date | null
  /** Whether its event is in the ledger: the ledger's amount counts, and the hold does not. */
  readonly isInLedger: boolean
}

const holdRow = z.object({
  hold_id: z.string(),
  event_id: z.string(),
  list_usd: z.string(),
  sell_usd: z.string(),
  settled_sell_usd: z.string().nullable(),
  bound: boundSchema,
  created_at: z.date(),
  expires_at: z.date(),
  released_at: z.date().nullable(),
  settled_at: z.date().nullable(),
  is_in_ledger: z.boolean(),
})

const SELECT = `
  select hold_id, event_id, trim_scale(list_usd)::text as list_usd, trim_scale(sell_usd)::text as sell_usd,
    trim_scale(settled_sell_usd)::text as settled_sell_usd, bound, created_at, expires_at, released_at, settled_at,
    exists (
      select from event_key
      where event_key.organization_id = hold.organization_id and event_key.event_id = hold.event_id
    ) as is_in_ledger
  from hold`

const DIMENSION_COLUMNS = [
  'customer_id',
  'user_id',
  'team_id',
  'project_id',
  'business_unit',
  'cost_center',
  'feature',
  'agent',
  'environment',
  'provider',
  'model',
] as const

/** The value that a dimension has for a hold; undefined: none, so that no limit by it applies. */
export function dimensionValue(dimensions: HoldDimensions, dimension: BudgetDimension): string | undefined {
  if (dimension === 'organization') return EVERYBODY
  if (dimension.startsWith('tag.')) return dimensions.tags?.[dimension.slice('tag.'.length)]
  if (dimension === 'api_key') return dimensions.api_key_id
  const column = dimensionOf(dimension)?.column
  const known = DIMENSION_COLUMNS.find((one) => one === column)
  return known === undefined ? undefined : dimensions[known]
}

/** A hold by its id; undefined when there is none. */
export async function findHold(pool: Pool, organizationId: string, id: string): Promise<Hold | undefined> {
  const { rows } = await pool.query(`${SELECT} where organization_id = $1 and hold_id = $2`, [
    organizationId,
    id,
  ])
  return rows.length === 0 ? undefined : holdOf(rows[0])
}

/** The holds of these events that still count, and those whose events are in the ledger. */
export async function findHoldsOfEvents(
  client: PoolClient,
  organizationId: string,
  eventIds: readonly string[],
  now: Date,
): Promise<readonly Hold[]> {
  const { rows } = await client.query(
    `${SELECT}
     where organization_id = $1 and event_id = any($2::text[]) and closed_at is null
       and released_at is null and (settled_at is not null or expires_at > $3)`,
    [organizationId, eventIds, now],
  )
  return rows.map(holdOf)
}

/** Which of these events are in the ledger. */
export async function findKnownEvents(
  client: PoolClient,
  organizationId: string,
  eventIds: readonly string[],
): Promise<ReadonlySet<string>> {
  const { rows } = await client.query<{ event_id: string }>(
    'select event_id from event_key where organization_id = $1 and event_id = any($2::text[])',
    [organizationId, eventIds],
  )
  return new Set(rows.map((row) => row.event_id))
}

/** Enters holds, all in one statement. */
export async function insertHolds(
  client: PoolClient,
  organizationId: string,
  holds: readonly NewHold[],
): Promise<void> {
  if (holds.length === 0) return
  const texts = DIMENSION_COLUMNS.map((column) => holds.map(({ dimensions }) => dimensions[column] ?? null))
  await client.query(
    `insert into hold (
       organization_id, hold_id, event_id, list_usd, sell_usd, bound, created_at, expires_at, api_key_id, tags,
       ${DIMENSION_COLUMNS.join(', ')})
     select $1, * from unnest(
       $2::uuid[], $3::text[], $4::numeric[], $5::numeric[], $6::jsonb[], $7::timestamptz[], $8::timestamptz[],
       $9::uuid[], $10::jsonb[], ${DIMENSION_COLUMNS.map((_, index) => `$${index + 11}::text[]`).join(', ')})`,
    [
      organizationId,
      holds.map(({ id }) => id),
      holds.map(({ eventId }) => eventId),
      holds.map(({ listUsd }) => decimalText(listUsd)),
      holds.map(({ sellUsd }) => decimalText(sellUsd)),
      holds.map(({ bound }) => JSON.stringify(bound)),
      holds.map(({ createdAt }) => createdAt),
      holds.map(({ expiresAt }) => expiresAt),
      holds.map(({ dimensions }) => dimensions.api_key_id),
      holds.map(({ dimensions }) => (dimensions.tags === undefined ? null : JSON.stringify(dimensions.tags))),
      ...texts,
    ],
  )
}

/** Gives a hold back. @returns whether it was still open */
export async function releaseHold(
  pool: Pool,
  organizationId: string,
  id: string,
  at: Date,
): Promise<boolean> {
  const { rowCount } = await pool.query(
    `update hold set released_at = $3, closed_at = $3
     where organization_id = $1 and hold_id = $2 and released_at is null and settled_at is null`,
    [organizationId, id, at],
  )
  return rowCount === 1
}

/**
 * Puts what a call cost in the place of its upper bound, also after the hold expired.
 *
 * @returns whether it was neither released nor settled before
 */
export async function settleHold(
  pool: Pool,
  organizationId: string,
  id: string,
  costUsd: string,
  at: Date,
): Promise<boolean> {
  const { rowCount } = await pool.query(
    `update hold set settled_at = $4, settled_list_usd = $3, settled_sell_usd = $3, closed_at = null
     where organization_id = $1 and hold_id = $2 and released_at is null and settled_at is null`,
    [organizationId, id, costUsd, at],
  )
  return rowCount === 1
}

/** What open holds reserve for one value. US dollars. */
export interface Held {
  readonly listUsd: Decimal
  readonly sellUsd: Decimal
}

/** What to sum up: holds by the values of a dimension, settled ones from an instant on. */
export interface HeldQuery {
  readonly dimension: BudgetDimension
  readonly values: readonly string[]
  /** Settled holds count until their events come, for the period in which they were settled. */
  readonly settledFromMs: number
}

/**
 * What counts as held, for each query by value; values without holds are missing. One statement, so that within
 * one snapshot an amount is either here or in the ledger.
 */
export async function heldBy(
  database: Pool | PoolClient,
  organizationId: string,
  now: Date,
  queries: readonly HeldQuery[],
): Promise<readonly ReadonlyMap<string, Held>[]> {
  const results = queries.map(() => new Map<string, Held>())
  if (queries.length === 0) return results
  const parameters = new SqlParameters()
  const organization = parameters.add(organizationId)
  const open = `
    select hold.*, coalesce(settled_list_usd, list_usd) as list, coalesce(settled_sell_usd, sell_usd) as sell
    from hold
    where organization_id = ${organization} and closed_at is null
      and (settled_at is not null or expires_at > ${parameters.add(now)}::timestamptz)
      and not exists (
        select from event_key
        where event_key.organization_id = ${organization} and event_key.event_id = hold.event_id
      )`
  const parts = queries.map(({ dimension, values, settledFromMs }, index) => {
    const value = valueExpression(dimension, parameters)
    const condition =
      dimension === 'organization' ? '' : `where ${value} = any(${parameters.add(values)}::text[])`
    const from = `${parameters.add(new Date(settledFromMs))}::timestamptz`
    return `
    select ${index} as query, ${value} as value,
      sum(list) filter (where settled_at is null or settled_at >= ${from})::text as list,
      sum(sell) filter (where settled_at is null or settled_at >= ${from})::text as sell
    from open ${condition}
    group by 2`
  })
  const { rows } = await database.query<{
    query: number
    value: string
    list: string | null
    sell: string | null
  }>(`with open as materialized (${open}) ${parts.join(' union all ')}`, parameters.values)
  for (const row of rows) {
    results[row.query]?.set(row.value, {
      listUsd: decimal(row.list ?? '0'),
      sellUsd: decimal(row.sell ?? '0'),
    })
  }
  return results
}

function valueExpression(dimension: BudgetDimension, parameters: SqlParameters): string {
  if (dimension === 'organization') return `'${EVERYBODY}'::text`
  const known = dimensionOf(dimension)
  if (known === undefined || !isBudgetDimension(dimension)) throw new Error(`no hold has ${dimension}`)
  if (known.column === undefined) return `(tags ->> ${parameters.add(known.tag)}::text)`
  return `${known.column}::text`
}

/**
 * Marks the holds that count for nothing any more, and forgets those of long ago. Tidying only: whether a hold
 * counts is decided by whoever asks.
 */
export async function sweepHolds(pool: Pool, now: Date, forgetBefore: Date): Promise<number> {
  const { rowCount } = await pool.query(
    `update hold set closed_at = $1
     where closed_at is null and (
       (settled_at is null and expires_at <= $1)
       or exists (
         select from event_key
         where event_key.organization_id = hold.organization_id and event_key.event_id = hold.event_id
       )
     )`,
    [now],
  )
  await pool.query('delete from hold where closed_at is not null and closed_at < $1', [forgetBefore])
  return rowCount ?? 0
}

function holdOf(row: unknown): Hold {
  const parsed = holdRow.parse(row)
  return {
    id: parsed.hold_id,
    eventId: parsed.event_id,
    listUsd: parsed.list_usd,
    sellUsd: parsed.sell_usd,
    settledSellUsd: parsed.settled_sell_usd,
    bound: parsed.bound,
    createdAt: parsed.created_at,
    expiresAt: parsed.expires_at,
    releasedAt: parsed.released_at,
    settledAt: parsed.settled_at,
    isInLedger: parsed.is_in_ledger,
  }
}

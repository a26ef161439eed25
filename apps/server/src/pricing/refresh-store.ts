import type { PriceChange } from '@tokentally/core'
import { type CatalogueModel, catalogueModelSchema } from '@tokentally/prices'
import type { Pool, PoolClient } from 'pg'
import { z } from 'zod'

/** `pending`: recorded, about to take effect; `waiting`: at least one model waits for a person. */
export const REFRESH_STATUSES = ['pending', 'waiting', 'applied', 'rejected'] as const
export type RefreshStatus = (typeof REFRESH_STATUSES)[number]

/** `superseded`: a later refresh said something else before anyone decided. */
export const REFRESHED_MODEL_STATUSES = [...REFRESH_STATUSES, 'superseded'] as const
export type RefreshedModelStatus = (typeof REFRESHED_MODEL_STATUSES)[number]

/** One model as a refresh found it. */
export interface RefreshedModel {
  readonly entry: CatalogueModel
  readonly isNew: boolean
  readonly status: RefreshedModelStatus
  readonly changes: readonly PriceChange[]
}

/** A newer catalogue that was looked at, without its models. */
export interface Refresh {
  readonly id: string
  readonly fetchedAt: Date
  readonly source: string
  readonly status: RefreshStatus
  /** How many models are in each status. */
  readonly models: Readonly<Record<RefreshedModelStatus, number>>
  readonly sequence: number
}

/** A model of a refresh, with what became of it. */
export interface DecidedModel extends RefreshedModel {
  readonly decidedAt: Date | null
  /** The key that approved or rejected it; null when nobody had to. */
  readonly decidedBy: string | null
}

/** Names a model of the catalogue; the tier is empty for the standard one. */
export interface ModelKey {
  readonly provider: string
  readonly model: string
  readonly serviceTier: string
}

export function keyOf({
  provider,
  model,
  serviceTier = '',
}: Omit<ModelKey, 'serviceTier'> & { readonly serviceTier?: string }): string {
  return `${provider}\n${model}\n${serviceTier}`
}

/** Serializes refreshes: what one has recorded the next must see. */
export const REFRESH_LOCK = "hashtext('tokentally.price_refresh')"

const changeSchema = z.object({
  meter: z.string(),
  aboveInputTokens: z.number().nullable(),
  atMs: z.number(),
  per: z.union([z.literal(1), z.literal(1000), z.literal(1_000_000)]),
  oldPrice: z.string().nullable(),
  newPrice: z.string().nullable(),
  percent: z.string().nullable(),
})

const modelRow = z
  .object({
    is_new: z.boolean(),
    status: z.enum(REFRESHED_MODEL_STATUSES),
    changes: z.array(changeSchema),
    entry: catalogueModelSchema,
    decided_at: z.date().nullable(),
    decided_by: z.string().nullable(),
  })
  .transform(
    (row): DecidedModel => ({
      entry: asEntry(row.entry),
      isNew: row.is_new,
      status: row.status,
      changes: row.changes,
      decidedAt: row.decided_at,
      decidedBy: row.decided_by,
    }),
  )

// Absent and undefined are different things to the type.
function asEntry({
  serviceTier,
  source,
  prices,
  ...entry
}: z.output<typeof catalogueModelSchema>): CatalogueModel {
  return {
    ...entry,
    ...(serviceTier !== undefined && { serviceTier }),
    ...(source !== undefined && { source }),
    prices: prices.map(({ timeOfDay, inputTokensMax, ...price }) => ({
      ...price,
      ...(timeOfDay !== undefined && { timeOfDay }),
      ...(inputTokensMax !== undefined && { inputTokensMax }),
    })),
  }
}

/** Records a refresh with everything that it found; nothing takes effect by this. */
export async function insertRefresh(
  client: PoolClient,
  refresh: Pick<Refresh, 'id' | 'fetchedAt' | 'source'>,
  models: readonly RefreshedModel[],
): Promise<void> {
  await client.query(
    `insert into price_refresh (id, fetched_at, source, status) values ($1, $2, $3, 'pending')`,
    [refresh.id, refresh.fetchedAt, refresh.source],
  )
  await client.query(
    `insert into price_refresh_model
       (refresh_id, provider, model, service_tier, is_new, status, changes, entry)
     select $1, provider, model, service_tier, is_new, status, changes, entry
     from unnest($2::text[], $3::text[], $4::text[], $5::boolean[], $6::text[], $7::jsonb[], $8::jsonb[])
       as found (provider, model, service_tier, is_new, status, changes, entry)`,
    [
      refresh.id,
      models.map(({ entry }) => entry.provider),
      models.map(({ entry }) => entry.model),
      models.map(({ entry }) => entry.serviceTier ?? ''),
      models.map(({ isNew }) => isNew),
      models.map(({ status }) => status),
      models.map(({ changes }) => JSON.stringify(changes)),
      models.map(({ entry }) => JSON.stringify(entry)),
    ],
  )
}

/** What was last recorded of each model: its edition and what became of it. */
export async function latestRecords(
  database: Pool | PoolClient,
): Promise<ReadonlyMap<string, { readonly edition: string; readonly status: RefreshedModelStatus }>> {
  const { rows } = await database.query<{
    provider: string
    model: string
    service_tier: string
    edition: string
    status: RefreshedModelStatus
  }>(`
    select distinct on (found.provider, found.model, found.service_tier)
      found.provider, found.model, found.service_tier, found.entry->>'edition' as edition, found.status
    from price_refresh_model as found
    join price_refresh as refresh on refresh.id = found.refresh_id
    order by found.provider, found.model, found.service_tier, refresh.sequence desc`)
  return new Map(
    rows.map(({ provider, model, service_tier, edition, status }) => [
      keyOf({ provider, model, serviceTier: service_tier }),
      { edition, status },
    ]),
  )
}

/** Takes back what waits for a person, because a later catalogue says something else. */
export async function supersedeWaiting(
  client: PoolClient,
  keys: readonly ModelKey[],
  at: Date,
): Promise<void> {
  const { rows } = await client.query<{ refresh_id: string }>(
    `update price_refresh_model as found
     set status = 'superseded', decided_at = $4
     from unnest($1::text[], $2::text[], $3::text[]) as newer (provider, model, service_tier)
     where found.provider = newer.provider and found.model = newer.model
       and found.service_tier = newer.service_tier and found.status = 'waiting'
     returning found.refresh_id`,
    [
      keys.map(({ provider }) => provider),
      keys.map(({ model }) => model),
      keys.map(({ serviceTier }) => serviceTier),
      at,
    ],
  )
  for (const id of new Set(rows.map(({ refresh_id }) => refresh_id))) await settleStatus(client, id)
}

/** The models of a refresh in a status, locked until the transaction ends. */
export async function lockModels(
  client: PoolClient,
  id: string,
  status: RefreshedModelStatus,
): Promise<readonly DecidedModel[]> {
  const { rows } = await client.query(
    `select * from price_refresh_model where refresh_id = $1 and status = $2
     order by provider, model, service_tier for update`,
    [id, status],
  )
  return rows.map((row) => modelRow.parse(row))
}

/** Writes down what became of models of a refresh. */
export async function decideModels(
  client: PoolClient,
  id: string,
  models: readonly CatalogueModel[],
  decision: { readonly status: RefreshedModelStatus; readonly at: Date; readonly by: string | null },
): Promise<void> {
  await client.query(
    `update price_refresh_model as found
     set status = $5, decided_at = $6, decided_by = $7
     from unnest($2::text[], $3::text[], $4::text[]) as decided (provider, model, service_tier)
     where found.refresh_id = $1 and found.provider = decided.provider and found.model = decided.model
       and found.service_tier = decided.service_tier`,
    [
      id,
      models.map(({ provider }) => provider),
      models.map(({ model }) => model),
      models.map(({ serviceTier }) => serviceTier ?? ''),
      decision.status,
      decision.at,
      decision.by,
    ],
  )
  await settleStatus(client, id)
}

/** Gives a refresh the status that its models add up to; one without models has taken effect. */
export async function settleStatus(client: PoolClient, id: string): Promise<void> {
  await client.query(
    `update price_refresh
     set status = (
       select case
         when bool_or(status = 'pending') then 'pending'
         when bool_or(status = 'waiting') then 'waiting'
         when count(*) = 0 or bool_or(status = 'applied') then 'applied'
         else 'rejected'
       end
       from price_refresh_model where refresh_id = $1
     )
     where id = $1`,
    [id],
  )
}

/** Refreshes that were recorded and have not taken effect: their process died in between. */
export async function pendingRefreshes(pool: Pool): Promise<readonly string[]> {
  const { rows } = await pool.query<{ id: string }>(
    `select id from price_refresh where status = 'pending' order by sequence`,
  )
  return rows.map(({ id }) => id)
}

/** How many refreshes wait for a person. */
export async function countWaiting(pool: Pool): Promise<number> {
  const { rows } = await pool.query<{ waiting: number }>(
    `select count(*)::int as waiting from price_refresh where status = 'waiting'`,
  )
  return rows[0]?.waiting ?? 0
}

const refreshRow = z
  .object({
    id: z.string(),
    fetched_at: z.date(),
    source: z.string(),
    status: z.enum(REFRESH_STATUSES),
    sequence: z.coerce.number(),
    counts: z.record(z.string(), z.number()),
  })
  .transform(({ fetched_at, counts, ...rest }): Refresh => {
    const { pending = 0, waiting = 0, applied = 0, rejected = 0, superseded = 0 } = counts
    return { ...rest, fetchedAt: fetched_at, models: { pending, waiting, applied, rejected, superseded } }
  })

const REFRESHES = `
  select refresh.*, coalesce((
    select jsonb_object_agg(status, models)
    from (
      select status, count(*)::int as models
      from price_refresh_model where refresh_id = refresh.id group by status
    ) as counted
  ), '{}') as counts
  from price_refresh as refresh`

/** Refreshes, the latest first. @param before the `sequence` where the page before ended */
export async function listRefreshes(
  pool: Pool,
  query: {
    readonly status: RefreshStatus | undefined
    readonly before: number | undefined
    readonly limit: number
  },
): Promise<readonly Refresh[]> {
  const { rows } = await pool.query(
    `${REFRESHES}
     where ($1::text is null or refresh.status = $1) and ($2::bigint is null or refresh.sequence < $2)
     order by refresh.sequence desc limit $3`,
    [query.status ?? null, query.before ?? null, query.limit],
  )
  return rows.map((row) => refreshRow.parse(row))
}

/** @returns undefined when there is no such refresh */
export async function findRefresh(database: Pool | PoolClient, id: string): Promise<Refresh | undefined> {
  const { rows } = await database.query(`${REFRESHES} where refresh.id = $1`, [id])
  return rows[0] === undefined ? undefined : refreshRow.parse(rows[0])
}

/** Everything that a refresh found, by provider, model and tier; what waits first. */
export async function listRefreshedModels(pool: Pool, id: string): Promise<readonly DecidedModel[]> {
  const { rows } = await pool.query(
    `select * from price_refresh_model where refresh_id = $1
     order by (status <> 'waiting'), provider, model, service_tier`,
    [id],
  )
  return rows.map((row) => modelRow.parse(row))
}

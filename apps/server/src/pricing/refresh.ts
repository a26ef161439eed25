import { randomUUID } from 'node:crypto'
import { isLargeChange, type PriceVersion, priceChanges } from '@tokentally/core'
import { type CatalogueModel, cataloguePriceId } from '@tokentally/prices'
import type { Pool, PoolClient } from 'pg'
import { inTransaction } from '../database/transaction.ts'
import {
  decideModels,
  insertRefresh,
  keyOf,
  latestRecords,
  lockModels,
  type ModelKey,
  pendingRefreshes,
  REFRESH_LOCK,
  type RefreshedModel,
  settleStatus,
  supersedeWaiting,
} from './refresh-store.ts'
import { changePriceBook, insertPrices, type NewPrice, priceVersion } from './store.ts'

/** A catalogue to take prices from. */
export interface CatalogueSource {
  /** Stored with every refresh and price; its first word tells sources apart. */
  readonly source: string
  readonly now: () => Date
  /**
   * Whether a model may get new prices whose present ones are from this source. A release must not undo what a
   * newer file brought.
   */
  readonly mayReplace?: (currentSource: string) => boolean
  /** Whether a refresh is recorded even where it finds nothing new. */
  readonly recordsNothing?: boolean
}

/**
 * Compares a catalogue with the price book and takes over what is new. A model that the book does not have gets its
 * prices at once, as the catalogue dates them. Where the catalogue has changed, its prices apply from now on and
 * those of before stay for the time before: history is never rewritten. What the catalogue no longer lists keeps
 * its price. A model of which a meter changes by more than half waits for a person.
 *
 * What was found is recorded first and takes effect in a second transaction. Safe to run twice and beside itself.
 *
 * @returns undefined when there was nothing to record
 */
export async function refreshCatalogue(
  pool: Pool,
  catalogue: readonly CatalogueModel[],
  options: CatalogueSource,
): Promise<{ readonly id: string; readonly addedPrices: number } | undefined> {
  const id = await withRefreshLock(pool, async (client) => {
    const found = await newerModels(client, catalogue, options)
    const at = options.now()
    await supersedeWaiting(
      client,
      [...found.map(({ entry }) => keyPartsOf(entry)), ...(await reverted(client, catalogue))],
      at,
    )
    if (found.length === 0 && options.recordsNothing !== true) return undefined
    const refresh = { id: randomUUID(), fetchedAt: at, source: options.source }
    await insertRefresh(client, refresh, found)
    return refresh.id
  })
  return id === undefined ? undefined : { id, addedPrices: await applyPending(pool, id, options.now) }
}

/**
 * Takes over the catalogue of a release at the start of the service; into an empty price book at once, without a
 * record.
 *
 * @returns how many price versions were added
 */
export async function importCatalogue(
  pool: Pool,
  catalogue: readonly CatalogueModel[],
  { source, now }: Pick<CatalogueSource, 'source' | 'now'>,
): Promise<number> {
  let added = 0
  if ((await countListed(pool)) === 0) {
    added = await changePriceBook(pool, async (client) => {
      if ((await countListed(client)) > 0) return 0
      const prices = catalogue.flatMap((entry) => newVersions(entry, source, null))
      await insertPrices(client, prices)
      return prices.length
    })
  }
  const family = familyOf(source)
  const options = { source, now, mayReplace: (current: string) => familyOf(current) === family }
  // Almost every start finds nothing to do; it must not wait for other replicas for that.
  if ((await newerModels(pool, catalogue, options)).length > 0) {
    added += (await refreshCatalogue(pool, catalogue, options))?.addedPrices ?? 0
  }
  for (const id of await pendingRefreshes(pool)) added += await applyPending(pool, id, now)
  return added
}

/** Enters what a refresh recorded and nobody has to look at. */
async function applyPending(pool: Pool, id: string, now: () => Date): Promise<number> {
  return changePriceBook(pool, async (client) => {
    const models = await lockModels(client, id, 'pending')
    const addedPrices = await enter(client, id, models, { now, by: null })
    await settleStatus(client, id)
    return addedPrices
  })
}

/**
 * Enters or drops models of a refresh that wait for a person.
 *
 * @param wanted the models that are meant; undefined: all that wait
 * @returns how many were decided; none when nothing of that waits
 */
export async function decideRefresh(
  pool: Pool,
  id: string,
  decision: {
    readonly status: 'applied' | 'rejected'
    readonly by: string
    readonly now: () => Date
    readonly wanted: readonly ModelKey[] | undefined
  },
): Promise<number> {
  const wanted = decision.wanted && new Set(decision.wanted.map(keyOf))
  const decide = async (client: PoolClient) => {
    const waiting = await lockModels(client, id, 'waiting')
    const models = waiting.filter(({ entry }) => wanted?.has(keyOf(entry)) ?? true)
    if (wanted !== undefined && models.length < wanted.size) return 0
    if (models.length === 0) return 0
    if (decision.status === 'applied') await enter(client, id, models, decision)
    else {
      const entries = models.map(({ entry }) => entry)
      await decideModels(client, id, entries, { status: 'rejected', at: decision.now(), by: decision.by })
    }
    return models.length
  }
  return decision.status === 'applied' ? changePriceBook(pool, decide) : withRefreshLock(pool, decide)
}

async function enter(
  client: PoolClient,
  id: string,
  models: readonly RefreshedModel[],
  { now, by }: { readonly now: () => Date; readonly by: string | null },
): Promise<number> {
  if (models.length === 0) return 0
  // The time is taken under the lock of the price book: nothing is rated between it and the commit.
  const at = now()
  const { rows } = await client.query<{ source: string }>('select source from price_refresh where id = $1', [
    id,
  ])
  const source = rows[0]?.source ?? ''
  const prices = models.flatMap(({ entry, isNew }) => newVersions(entry, source, isNew ? null : at.getTime()))
  await insertPrices(client, prices)
  const entries = models.map(({ entry }) => entry)
  await decideModels(client, id, entries, { status: 'applied', at, by })
  return prices.length
}

interface ListedModel {
  readonly edition: string
  readonly source: string
}

/** What the price book has of a catalogue's models: the latest of each. */
async function listedModels(database: Pool | PoolClient): Promise<ReadonlyMap<string, ListedModel>> {
  const { rows } = await database.query<
    ListedModel & { provider: string; model: string; service_tier: string }
  >(`
    select distinct on (provider, model, coalesce(service_tier, ''))
      provider, model, coalesce(service_tier, '') as service_tier, edition, source
    from price_version
    where organization_id is null
    order by provider, model, coalesce(service_tier, ''), sequence desc`)
  return new Map(rows.map(({ service_tier, ...row }) => [keyOf({ ...row, serviceTier: service_tier }), row]))
}

/** The entries that say something else than the price book, and were neither recorded nor rejected so before. */
async function newerModels(
  database: Pool | PoolClient,
  catalogue: readonly CatalogueModel[],
  { now, mayReplace = () => true }: Pick<CatalogueSource, 'now' | 'mayReplace'>,
): Promise<readonly RefreshedModel[]> {
  // In this order: what is being entered meanwhile is seen as recorded at the least.
  const records = await latestRecords(database)
  const listed = await listedModels(database)
  const changed = catalogue.filter((entry) => {
    const known = listed.get(keyOf(entry))
    if (known === undefined) return true
    return known.edition !== entry.edition && (entry.serviceTier !== undefined || mayReplace(known.source))
  })
  if (changed.length === 0) return []
  const open = changed.filter((entry) => {
    const record = records.get(keyOf(entry))
    return record?.edition !== entry.edition || record.status === 'superseded' || record.status === 'applied'
  })
  const before = await versionsOf(database, open)
  const nowMs = now().getTime()
  return open.map((entry) => {
    const isNew = !listed.has(keyOf(entry))
    const old = (before.get(keyOf(entry)) ?? []).map((version) => ({
      ...version,
      startMs: version.effectiveFromMs,
    }))
    const changes = priceChanges(old, entry.prices, nowMs)
    const status = !isNew && changes.some(isLargeChange) ? 'waiting' : 'pending'
    return { entry, isNew, status, changes }
  })
}

/** The entries that are again what the price book says: what waits for them is no longer wanted. */
async function reverted(
  client: PoolClient,
  catalogue: readonly CatalogueModel[],
): Promise<readonly ModelKey[]> {
  const listed = await listedModels(client)
  return catalogue.filter((entry) => listed.get(keyOf(entry))?.edition === entry.edition).map(keyPartsOf)
}

async function versionsOf(
  database: Pool | PoolClient,
  entries: readonly CatalogueModel[],
): Promise<ReadonlyMap<string, readonly PriceVersion[]>> {
  const { rows } = await database.query(
    `select version.*
     from price_version as version
     join unnest($1::text[], $2::text[], $3::text[]) as wanted (provider, model, service_tier)
       on version.provider = wanted.provider and version.model = wanted.model
       and coalesce(version.service_tier, '') = wanted.service_tier
     where version.organization_id is null
     order by version.sequence`,
    [
      entries.map(({ provider }) => provider),
      entries.map(({ model }) => model),
      entries.map(({ serviceTier }) => serviceTier ?? ''),
    ],
  )
  return Map.groupBy(rows.map(priceVersion), keyOfVersion)
}

function keyOfVersion({ provider, model, serviceTier = '' }: PriceVersion): string {
  return keyOf({ provider, model, serviceTier })
}

function keyPartsOf({ provider, model, serviceTier = '' }: CatalogueModel): ModelKey {
  return { provider, model, serviceTier }
}

async function countListed(database: Pool | PoolClient): Promise<number> {
  const { rows } = await database.query<{ count: number }>(
    'select count(*)::int as count from price_version where organization_id is null',
  )
  return rows[0]?.count ?? 0
}

function familyOf(source: string): string {
  return source.split(' ')[0] ?? ''
}

function newVersions(entry: CatalogueModel, source: string, supersedesAtMs: number | null): NewPrice[] {
  return entry.prices.map((price, position) => ({
    id: cataloguePriceId(entry, position, supersedesAtMs),
    organizationId: null,
    provider: entry.provider,
    model: entry.model,
    match: entry.match,
    effectiveFromMs:
      supersedesAtMs === null ? price.startMs : Math.max(supersedesAtMs, price.startMs ?? supersedesAtMs),
    timeOfDay: price.timeOfDay,
    serviceTier: entry.serviceTier,
    inputTokensMax: price.inputTokensMax,
    rates: price.rates,
    source: entry.source ?? source,
    edition: entry.edition,
  }))
}

function withRefreshLock<T>(pool: Pool, work: (client: PoolClient) => Promise<T>): Promise<T> {
  return inTransaction(pool, async (client) => {
    await client.query(`select pg_advisory_xact_lock(${REFRESH_LOCK})`)
    return work(client)
  })
}

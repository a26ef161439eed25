import {
  buildMarkupBook,
  buildPriceBook,
  modelMatchSchema,
  type PriceBook,
  type PriceVersion,
  type RatingBook,
  ratesSchema,
  timeOfDaySchema,
} from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'
import { z } from 'zod'
import { inOneSnapshot, inTransaction } from '../database/transaction.ts'
import { loadCurrencyBook } from './currency-store.ts'
import { loadMarkupRules } from './markup-store.ts'

/**
 * Key of the advisory lock that every change of the price book takes exclusively and every append to the ledger
 * shares: an event is never committed with a price that was superseded before.
 */
export const PRICE_BOOK_LOCK = "hashtext('tokentally.price_book')"

const versionRow = z.object({
  id: z.string(),
  organization_id: z.string().nullable(),
  provider: z.string(),
  model: z.string(),
  match: modelMatchSchema,
  effective_from: z.date().nullable(),
  time_of_day: timeOfDaySchema.nullable(),
  service_tier: z.string().nullable(),
  region: z.string().nullable(),
  customer_id: z.string().nullable(),
  input_tokens_max: z.coerce.number().nullable(),
  discount: z.string().nullable(),
  rates: ratesSchema,
  source: z.string(),
  sequence: z.coerce.number(),
})

// One statement, one snapshot: the revision is that of exactly these prices.
const LOAD = `
  select book.revision::text, version.*
  from price_book as book
  left join price_version as version on true
  order by version.sequence`

/** Reads the price book as it is committed, or as the given transaction sees it. */
export async function loadPriceBook(database: Pool | PoolClient): Promise<PriceBook> {
  const { rows } = await database.query<{ revision: string; id: string | null }>(LOAD)
  const versions = rows.flatMap((row) => (row.id === null ? [] : [priceVersion(row)]))
  return buildPriceBook(versions, Number(rows[0]?.revision ?? 0))
}

/**
 * Reads everything that events are rated by, as it is committed or as the given transaction sees it, in one
 * snapshot: the revision is that of all of it, and the ledger trusts it.
 */
export async function loadRatingBook(database: Pool | PoolClient): Promise<RatingBook> {
  return inOneSnapshot(database, async (client) => {
    const prices = await loadPriceBook(client)
    const markups = buildMarkupBook(await loadMarkupRules(client))
    return { revision: prices.revision, prices, markups, currencies: await loadCurrencyBook(client) }
  })
}

/** The revision that is committed, or that the given transaction sees. */
export async function readRevision(database: Pool | PoolClient): Promise<number> {
  const { rows } = await database.query<{ revision: string }>('select revision::text from price_book')
  return Number(rows[0]?.revision ?? 0)
}

/** Runs a change of the price book alone: nothing is appended to the ledger meanwhile. */
export function changePriceBook<T>(pool: Pool, change: (client: PoolClient) => Promise<T>): Promise<T> {
  return inTransaction(pool, async (client) => {
    await client.query(`select pg_advisory_xact_lock(${PRICE_BOOK_LOCK})`)
    return change(client)
  })
}

/**
 * Counts the revision up, in the transaction of a change that took its time: the lock comes last, so that the
 * ledger need not wait for the change itself. Nothing may be written after it.
 */
export async function announceRatingChange(client: PoolClient): Promise<void> {
  await client.query(`select pg_advisory_xact_lock(${PRICE_BOOK_LOCK})`)
  await client.query('update price_book set revision = revision + 1')
}

/** A new price; ids and order are given by whoever enters it and by the database. */
export type NewPrice = Omit<PriceVersion, 'sequence'> & { readonly edition: string | null }

// The order of the rows is the order of entry, which decides between prices of one model.
const INSERT = `
  insert into price_version
    (id, organization_id, provider, model, match, effective_from, time_of_day, rates, source, edition,
     service_tier, region, customer_id, input_tokens_max, discount)
  select id, organization_id, provider, model, match, effective_from, time_of_day, rates, source, edition,
    service_tier, region, customer_id, input_tokens_max, discount
  from unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::jsonb[], $6::timestamptz[], $7::jsonb[], $8::jsonb[],
    $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bigint[], $15::numeric[]
  ) with ordinality as price (
    id, organization_id, provider, model, match, effective_from, time_of_day, rates, source, edition,
    service_tier, region, customer_id, input_tokens_max, discount, position
  )
  order by position
  returning created_at`

/**
 * Enters prices and counts the revision up. To be called within `changePriceBook`.
 *
 * @returns when they were entered, by the database's clock
 */
export async function insertPrices(client: PoolClient, prices: readonly NewPrice[]): Promise<Date> {
  const { rows } = await client.query<{ created_at: Date }>(INSERT, [
    prices.map(({ id }) => id),
    prices.map(({ organizationId }) => organizationId),
    prices.map(({ provider }) => provider),
    prices.map(({ model }) => model),
    prices.map(({ match }) => JSON.stringify(match)),
    prices.map(({ effectiveFromMs }) => (effectiveFromMs === null ? null : new Date(effectiveFromMs))),
    prices.map(({ timeOfDay }) => (timeOfDay === undefined ? null : JSON.stringify(timeOfDay))),
    prices.map(({ rates }) => JSON.stringify(rates)),
    prices.map(({ source }) => source),
    prices.map(({ edition }) => edition),
    prices.map(({ serviceTier }) => serviceTier ?? null),
    prices.map(({ region }) => region ?? null),
    prices.map(({ customer }) => customer ?? null),
    prices.map(({ inputTokensMax }) => inputTokensMax ?? null),
    prices.map(({ discount }) => discount ?? null),
  ])
  await client.query('update price_book set revision = revision + 1')
  const [first] = rows
  if (first === undefined) throw new RangeError('there are no prices to enter')
  return first.created_at
}

/** A price with what only lists show. */
export interface ListedPrice {
  readonly version: PriceVersion
  readonly createdAt: Date
}

/** Where a page of prices begins: after this one. */
export interface PricePosition {
  readonly provider: string
  readonly model: string
  readonly sequence: number
}

const LIST = `
  select *
  from price_version
  where (organization_id is null or organization_id = $1)
    and ($2::text is null or provider = $2)
    and ($3::text is null or lower(model) = lower($3) or id = any($4::uuid[]))
    and ($5::text is null or (provider, model, sequence) > ($5, $6::text, $7::bigint))
  order by provider, model, sequence
  limit $8`

/** All versions, past and to come, that an organization may see: its own and the catalogue's. */
export async function listPrices(
  pool: Pool,
  query: {
    readonly organizationId: string
    readonly provider: string | undefined
    readonly model: string | undefined
    /** Versions that are for this model under another name. */
    readonly alsoIds: readonly string[]
    readonly after: PricePosition | undefined
    readonly limit: number
  },
): Promise<readonly ListedPrice[]> {
  const { after } = query
  const { rows } = await pool.query<{ created_at: Date }>(LIST, [
    query.organizationId,
    query.provider ?? null,
    query.model ?? null,
    query.alsoIds,
    after?.provider ?? null,
    after?.model ?? null,
    after?.sequence ?? null,
    query.limit,
  ])
  return rows.map((row) => ({ version: priceVersion(row), createdAt: row.created_at }))
}

/** A row of `price_version`. */
export function priceVersion(row: unknown): PriceVersion {
  const {
    organization_id,
    effective_from,
    time_of_day,
    service_tier,
    customer_id,
    input_tokens_max,
    ...rest
  } = versionRow.parse(row)
  const { region, discount, ...plain } = rest
  return {
    ...plain,
    organizationId: organization_id,
    effectiveFromMs: effective_from?.getTime() ?? null,
    ...(time_of_day !== null && { timeOfDay: time_of_day }),
    ...(service_tier !== null && { serviceTier: service_tier }),
    ...(region !== null && { region }),
    ...(customer_id !== null && { customer: customer_id }),
    ...(input_tokens_max !== null && { inputTokensMax: input_tokens_max }),
    ...(discount !== null && { discount }),
  }
}

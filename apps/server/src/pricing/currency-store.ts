import { buildCurrencyBook, type CurrencyBook, crossRate } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'

/** The source of the rates that the service fetches. */
export const ECB = 'ecb'

const CURRENCIES = `
  select organization_id, customer_id, currency, source, effective_from
  from customer_currency
  order by organization_id, customer_id, sequence`

// Of currencies that somebody pays in, and the dollar that they are converted from: 27 years have a rate for
// each of 41 currencies on 7,000 days, and few of them are asked for.
const RATES = `
  select organization_id, source, currency, valid_from, units_per_eur::text
  from fx_rate
  where currency = 'USD' or currency in (select currency from customer_currency)`

interface CurrencyRow {
  readonly organization_id: string
  readonly customer_id: string
  readonly currency: string
  readonly source: string
  readonly effective_from: Date
}

interface RateRow {
  readonly organization_id: string | null
  readonly source: string
  readonly currency: string
  readonly valid_from: Date
  readonly units_per_eur: string
}

/** Reads the currencies and rates that the given transaction sees. */
export async function loadCurrencyBook(client: PoolClient): Promise<CurrencyBook> {
  const currencies = await client.query<CurrencyRow>(CURRENCIES)
  const rates = currencies.rows.length === 0 ? [] : (await client.query<RateRow>(RATES)).rows
  return buildCurrencyBook(
    currencies.rows.map((row) => ({
      organizationId: row.organization_id,
      customer: row.customer_id,
      currency: row.currency,
      source: row.source,
      effectiveFromMs: row.effective_from.getTime(),
    })),
    rates.map((row) => ({
      organizationId: row.organization_id,
      source: row.source,
      currency: row.currency,
      validFromMs: row.valid_from.getTime(),
      unitsPerEur: row.units_per_eur,
    })),
  )
}

/** A rate to be kept. */
export interface NewRate {
  readonly currency: string
  readonly validFrom: Date
  /** Units of the currency for one euro, exact decimal text. */
  readonly unitsPerEur: string
}

/** A rate that differs from the one that is kept already. The first one stands. */
export interface DifferingRate {
  readonly currency: string
  readonly validFrom: Date
  readonly kept: string
  readonly given: string
}

const GIVEN = `
  from unnest($3::text[], $4::timestamptz[], $5::numeric[]) as given (currency, valid_from, units_per_eur)`

const INSERT_RATES = `
  insert into fx_rate (organization_id, source, currency, valid_from, units_per_eur)
  select $1::uuid, $2::text, given.currency, given.valid_from, given.units_per_eur ${GIVEN}
  order by given.valid_from, given.currency
  on conflict (organization_id, source, currency, valid_from) do nothing`

const DIFFERING = `
  select given.currency, given.valid_from, rate.units_per_eur::text as kept, given.units_per_eur::text as given
  ${GIVEN}
  join fx_rate as rate
    on rate.organization_id is not distinct from $1::uuid and rate.source = $2
    and rate.currency = given.currency and rate.valid_from = given.valid_from
    and rate.units_per_eur <> given.units_per_eur
  order by given.valid_from desc, given.currency
  limit $6`

const DIFFERING_SHOWN_MAX = 100
const PAGE_RATES = 20_000

/**
 * Keeps rates that are not kept yet; what is kept stays as it is. Within the caller's transaction.
 *
 * @param owner the organization that they are for; null: every organization
 * @returns how many are new, and those that differ from what is kept (at most 100)
 */
export async function insertRates(
  client: PoolClient,
  { owner, source }: { readonly owner: string | null; readonly source: string },
  rates: readonly NewRate[],
): Promise<{ readonly added: number; readonly differing: readonly DifferingRate[] }> {
  let added = 0
  const differing: DifferingRate[] = []
  for (let start = 0; start < rates.length; start += PAGE_RATES) {
    const page = rates.slice(start, start + PAGE_RATES)
    const values = [
      owner,
      source,
      page.map(({ currency }) => currency),
      page.map(({ validFrom }) => validFrom),
      page.map(({ unitsPerEur }) => unitsPerEur),
    ]
    added += (await client.query(INSERT_RATES, values)).rowCount ?? 0
    const found = await client.query<{ currency: string; valid_from: Date; kept: string; given: string }>(
      DIFFERING,
      [...values, DIFFERING_SHOWN_MAX - differing.length],
    )
    for (const { valid_from, ...rate } of found.rows) differing.push({ ...rate, validFrom: valid_from })
  }
  return { added, differing }
}

/** A rate as it is listed. */
export interface ListedRate {
  readonly source: string
  readonly isOwn: boolean
  readonly currency: string
  readonly validFrom: Date
  readonly unitsPerEur: string
  /** Of the same source and moment; undefined where the dollar was not published. */
  readonly usdPerEur: string | undefined
}

// Of each source and currency the last one at the moment, or all of them from the newest on.
const LIST = `
  select rate.source, rate.organization_id is not null as is_own, rate.currency, rate.valid_from,
    rate.units_per_eur::text, dollar.units_per_eur::text as usd_per_eur
  from (
    select distinct on (source, currency, valid_from) *
    from fx_rate
    where (organization_id = $1 or organization_id is null)
      and ($2::text is null or source = $2)
      and ($3::text is null or currency = $3)
      and valid_from < $4
      and valid_from >= $5
    order by source, currency, valid_from, organization_id nulls last
  ) as rate
  left join lateral (
    select units_per_eur
    from fx_rate
    where source = rate.source and currency = 'USD' and valid_from = rate.valid_from
      and (organization_id = $1 or organization_id is null)
    order by organization_id nulls last
    limit 1
  ) as dollar on true
  order by rate.valid_from desc, rate.source, rate.currency
  limit $6`

/** Rates of an organization, the newest first. */
export async function listRates(
  pool: Pool,
  query: {
    readonly organizationId: string
    readonly source: string | undefined
    readonly currency: string | undefined
    readonly from: Date
    readonly before: Date
    readonly limit: number
  },
): Promise<readonly ListedRate[]> {
  const { rows } = await pool.query<RateRow & { is_own: boolean; usd_per_eur: string | null }>(LIST, [
    query.organizationId,
    query.source ?? null,
    query.currency ?? null,
    query.before,
    query.from,
    query.limit,
  ])
  return rows.map((row) => ({
    source: row.source,
    isOwn: row.is_own,
    currency: row.currency,
    validFrom: row.valid_from,
    unitsPerEur: row.units_per_eur,
    usdPerEur: row.usd_per_eur ?? undefined,
  }))
}

/** The day of the last rate on a day or before; undefined when there is none that early. */
export async function lastRateDay(
  pool: Pool,
  query: {
    readonly organizationId: string
    readonly source: string | undefined
    readonly currency: string | undefined
    readonly before: Date
  },
): Promise<Date | undefined> {
  const { rows } = await pool.query<{ valid_from: Date | null }>(
    `select max(valid_from) as valid_from
     from fx_rate
     where (organization_id = $1 or organization_id is null)
       and ($2::text is null or source = $2) and ($3::text is null or currency = $3) and valid_from < $4`,
    [query.organizationId, query.source ?? null, query.currency ?? null, query.before],
  )
  return rows[0]?.valid_from ?? undefined
}

/** Whether a source has a rate to convert US dollars into a currency by. */
export async function hasRate(
  client: PoolClient,
  { organizationId, source, currency }: { organizationId: string; source: string; currency: string },
): Promise<boolean> {
  const { rows } = await client.query<{ is_known: boolean }>(
    `select exists (
       select from fx_rate as dollar
       where (dollar.organization_id = $1 or dollar.organization_id is null)
         and dollar.source = $2 and dollar.currency = 'USD'
         and ($3 = 'EUR' or exists (
           select from fx_rate as rate
           where (rate.organization_id = $1 or rate.organization_id is null)
             and rate.source = $2 and rate.currency = $3 and rate.valid_from = dollar.valid_from
         ))
     ) as is_known`,
    [organizationId, source, currency],
  )
  return rows[0]?.is_known === true
}

/**
 * The last rate of a source from US dollars to a currency before an instant, as events are sold by.
 *
 * @param currency not USD
 * @returns undefined when the source knows none that early
 */
export async function lastRate(
  database: Pool | PoolClient,
  query: {
    readonly organizationId: string
    readonly source: string
    readonly currency: string
    readonly before: Date
  },
): Promise<{ readonly rate: string; readonly rateDate: string } | undefined> {
  const { rows } = await database.query<{ valid_from: Date; units_per_eur: string; usd_per_eur: string }>(
    `select dollar.valid_from, coalesce(rate.units_per_eur, 1)::text as units_per_eur,
       dollar.units_per_eur::text as usd_per_eur
     from fx_rate as dollar
     left join fx_rate as rate
       on rate.source = dollar.source and rate.currency = $3 and rate.valid_from = dollar.valid_from
       and (rate.organization_id = $1 or rate.organization_id is null)
     where dollar.source = $2 and dollar.currency = 'USD' and dollar.valid_from < $4
       and (dollar.organization_id = $1 or dollar.organization_id is null)
       and ($3 = 'EUR' or rate.currency is not null)
     order by dollar.valid_from desc, dollar.organization_id nulls last, rate.organization_id nulls last
     limit 1`,
    [query.organizationId, query.source, query.currency, query.before],
  )
  const [row] = rows
  if (row === undefined) return undefined
  return {
    rate: crossRate(row.units_per_eur, row.usd_per_eur),
    rateDate: row.valid_from.toISOString().slice(0, 10),
  }
}

/** Who publishes the rates that customers who pay in a currency are charged by, as it was set last. */
export async function rateSources(
  database: Pool | PoolClient,
  organizationId: string,
  customers: readonly string[],
): Promise<readonly { readonly customer: string; readonly currency: string; readonly source: string }[]> {
  const { rows } = await database.query<{ customer_id: string; currency: string; source: string }>(
    `select distinct on (customer_id, currency) customer_id, currency, source
     from customer_currency
     where organization_id = $1 and customer_id = any($2)
     order by customer_id, currency, sequence desc`,
    [organizationId, customers],
  )
  return rows.map(({ customer_id: customer, currency, source }) => ({ customer, currency, source }))
}

/** A setting of what a customer pays in. */
export interface CurrencySetting {
  readonly currency: string
  readonly source: string
  readonly effectiveFrom: Date
  /** The API key that set it. */
  readonly apiKeyId: string
}

/** Every setting that a customer had, the newest first. */
export async function listSettings(
  database: Pool | PoolClient,
  organizationId: string,
  customerId: string,
): Promise<readonly CurrencySetting[]> {
  const { rows } = await database.query<CurrencyRow & { api_key_id: string }>(
    `select organization_id, customer_id, currency, source, effective_from, api_key_id
     from customer_currency
     where organization_id = $1 and customer_id = $2
     order by sequence desc`,
    [organizationId, customerId],
  )
  return rows.map((row) => ({
    currency: row.currency,
    source: row.source,
    effectiveFrom: row.effective_from,
    apiKeyId: row.api_key_id,
  }))
}

/** Enters a setting and counts the revision up. To be called within `changePriceBook`. */
export async function insertSetting(
  client: PoolClient,
  { organizationId, customerId }: { readonly organizationId: string; readonly customerId: string },
  setting: CurrencySetting,
): Promise<void> {
  await client.query(
    `insert into customer_currency (organization_id, customer_id, currency, source, effective_from, api_key_id)
     values ($1, $2, $3, $4, $5, $6)`,
    [organizationId, customerId, setting.currency, setting.source, setting.effectiveFrom, setting.apiKeyId],
  )
  await client.query('update price_book set revision = revision + 1')
}

import type { Vendor } from '@tokentally/core'
import type { Pool } from 'pg'

/** Where a vendor is asked for its figures, and what is known of its keys. */
export interface VendorConnection {
  readonly organizationId: string
  readonly vendor: string
  /** Null: the vendor's own address. */
  readonly baseUrl: string | null
  /** Null: its figures come as files. */
  readonly sealedKey: Buffer | null
  /** Enough of the key to tell it from others. */
  readonly keyShown: string | null
  /** The vendor's keys and projects whose calls are metered; null: nobody said. */
  readonly meteredKeys: readonly string[] | null
  readonly isEnabled: boolean
  readonly updatedAt: Date
  readonly lastFetchedAt: Date | null
  readonly lastError: string | null
}

interface ConnectionRow {
  readonly organization_id: string
  readonly vendor: string
  readonly base_url: string | null
  readonly sealed_key: Buffer | null
  readonly key_shown: string | null
  readonly metered_keys: readonly string[] | null
  readonly is_enabled: boolean
  readonly updated_at: Date
  readonly last_fetched_at: Date | null
  readonly last_error: string | null
}

function connectionOf(row: ConnectionRow): VendorConnection {
  return {
    organizationId: row.organization_id,
    vendor: row.vendor,
    baseUrl: row.base_url,
    sealedKey: row.sealed_key,
    keyShown: row.key_shown,
    meteredKeys: row.metered_keys,
    isEnabled: row.is_enabled,
    updatedAt: row.updated_at,
    lastFetchedAt: row.last_fetched_at,
    lastError: row.last_error,
  }
}

export async function findConnection(
  pool: Pool,
  organizationId: string,
  vendor: Vendor,
): Promise<VendorConnection | undefined> {
  const { rows } = await pool.query<ConnectionRow>(
    'select * from vendor_connection where organization_id = $1 and vendor = $2',
    [organizationId, vendor],
  )
  return rows[0] === undefined ? undefined : connectionOf(rows[0])
}

export type ConnectionValues = Omit<VendorConnection, 'updatedAt' | 'lastFetchedAt' | 'lastError'>

/** Writes a connection; what was last fetched stays known, what last failed does not. */
export async function putConnection(
  pool: Pool,
  values: ConnectionValues,
  now: Date,
): Promise<VendorConnection> {
  const { rows } = await pool.query<ConnectionRow>(
    `insert into vendor_connection as connection
       (organization_id, vendor, base_url, sealed_key, key_shown, metered_keys, is_enabled, updated_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8)
     on conflict (organization_id, vendor) do update
     set base_url = excluded.base_url, sealed_key = excluded.sealed_key, key_shown = excluded.key_shown,
       metered_keys = excluded.metered_keys, is_enabled = excluded.is_enabled, updated_at = excluded.updated_at,
       last_error = null
     returning *`,
    [
      values.organizationId,
      values.vendor,
      values.baseUrl,
      values.sealedKey,
      values.keyShown,
      values.meteredKeys,
      values.isEnabled,
      now,
    ],
  )
  const [row] = rows
  if (row === undefined) throw new Error('A connection was not written.')
  return connectionOf(row)
}

/** @returns whether it was there */
export async function deleteConnection(pool: Pool, organizationId: string, vendor: Vendor): Promise<boolean> {
  const { rowCount } = await pool.query(
    'delete from vendor_connection where organization_id = $1 and vendor = $2',
    [organizationId, vendor],
  )
  return rowCount === 1
}

/** The connections that were not fetched since a time, those that wait longest first. */
export async function listDueConnections(
  pool: Pool,
  since: Date,
): Promise<readonly { readonly organizationId: string; readonly vendor: string }[]> {
  const { rows } = await pool.query<{ organization_id: string; vendor: string }>(
    `select organization_id, vendor from vendor_connection
     where is_enabled and sealed_key is not null and (last_fetched_at is null or last_fetched_at < $1)
     order by last_fetched_at nulls first, organization_id, vendor`,
    [since],
  )
  return rows.map((row) => ({ organizationId: row.organization_id, vendor: row.vendor }))
}

/** Notes how fetching went; a failure leaves the time of the last success. */
export async function noteFetch(
  pool: Pool,
  organizationId: string,
  vendor: Vendor,
  outcome: { readonly at: Date; readonly error: string | null },
): Promise<void> {
  await pool.query(
    `update vendor_connection
     set last_error = $3, last_fetched_at = case when $3::text is null then $4 else last_fetched_at end
     where organization_id = $1 and vendor = $2`,
    [organizationId, vendor, outcome.error, outcome.at],
  )
}

export async function saveCoverage(
  pool: Pool,
  coverage: {
    readonly organizationId: string
    readonly vendor: Vendor
    readonly tokensRatio: string | null
    readonly costRatio: string | null
  },
  now: Date,
): Promise<void> {
  await pool.query(
    `insert into vendor_coverage (organization_id, vendor, tokens_ratio, cost_ratio, computed_at)
     values ($1, $2, $3, $4, $5)
     on conflict (organization_id, vendor) do update
     set tokens_ratio = excluded.tokens_ratio, cost_ratio = excluded.cost_ratio, computed_at = excluded.computed_at`,
    [coverage.organizationId, coverage.vendor, coverage.tokensRatio, coverage.costRatio, now],
  )
}

/** Forgets the coverage of a vendor that has told of nothing lately. */
export async function deleteCoverage(pool: Pool, organizationId: string, vendor: Vendor): Promise<void> {
  await pool.query('delete from vendor_coverage where organization_id = $1 and vendor = $2', [
    organizationId,
    vendor,
  ])
}

/** The lowest share of tokens of each vendor. */
export async function lowestCoverages(
  pool: Pool,
): Promise<readonly { readonly vendor: string; readonly ratio: number }[]> {
  const { rows } = await pool.query<{ vendor: string; ratio: string }>(
    `select vendor, min(coalesce(tokens_ratio, cost_ratio))::text as ratio from vendor_coverage
     where coalesce(tokens_ratio, cost_ratio) is not null
     group by vendor`,
  )
  return rows.map(({ vendor, ratio }) => ({ vendor, ratio: Number(ratio) }))
}

import type { BillingProfile } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'

/** Billing profiles in the database: one row for each customer. */

export interface StoredProfile {
  readonly customer: string
  readonly profile: BillingProfile
  readonly createdAt: Date
  readonly updatedAt: Date
}

interface ProfileRow {
  readonly customer_id: string
  readonly definition: BillingProfile
  readonly created_at: Date
  readonly updated_at: Date
}

const COLUMNS = 'customer_id, definition, created_at, updated_at'

/** @returns undefined when the customer has no profile and thus gets no invoices */
export async function findProfile(
  database: Pool | PoolClient,
  organizationId: string,
  customer: string,
): Promise<StoredProfile | undefined> {
  const { rows } = await database.query<ProfileRow>(
    `select ${COLUMNS} from billing_profile where organization_id = $1 and customer_id = $2`,
    [organizationId, customer],
  )
  return rows[0] === undefined ? undefined : profileOf(rows[0])
}

/** Profiles by customer id, in the order of its bytes. @param after the last customer of the page before */
export async function listProfiles(
  database: Pool | PoolClient,
  { organizationId, limit, after }: { organizationId: string; limit: number; after: string | undefined },
): Promise<readonly StoredProfile[]> {
  const { rows } = await database.query<ProfileRow>(
    `select ${COLUMNS}
     from billing_profile
     where organization_id = $1 and ($2::text is null or customer_id collate "C" > $2)
     order by customer_id collate "C"
     limit $3`,
    [organizationId, after ?? null, limit],
  )
  return rows.map(profileOf)
}

/** Creates the customer's profile or takes its place. */
export async function writeProfile(
  client: PoolClient,
  organizationId: string,
  customer: string,
  profile: BillingProfile,
  now: Date,
): Promise<StoredProfile> {
  const { rows } = await client.query<ProfileRow>(
    `insert into billing_profile (organization_id, customer_id, definition, created_at, updated_at)
     values ($1, $2, $3, $4, $4)
     on conflict (organization_id, customer_id)
       do update set definition = excluded.definition, updated_at = excluded.updated_at
     returning ${COLUMNS}`,
    [organizationId, customer, JSON.stringify(profile), now],
  )
  const [row] = rows
  if (row === undefined) throw new Error('a profile that was written is gone')
  return profileOf(row)
}

/** @returns whether it was there */
export async function deleteProfile(
  client: PoolClient,
  organizationId: string,
  customer: string,
): Promise<boolean> {
  const { rowCount } = await client.query(
    'delete from billing_profile where organization_id = $1 and customer_id = $2',
    [organizationId, customer],
  )
  return rowCount === 1
}

/** Up to where each of these customers is invoiced; customers without invoices are absent. */
export async function lastInvoicedEnds(
  database: Pool | PoolClient,
  organizationId: string,
  customers: readonly string[],
): Promise<ReadonlyMap<string, Date>> {
  const { rows } = await database.query<{ customer_id: string; period_end: Date }>(
    `select customer_id, max(period_end) as period_end
     from invoice
     where organization_id = $1 and customer_id = any($2)
     group by customer_id`,
    [organizationId, customers],
  )
  return new Map(rows.map((row) => [row.customer_id, row.period_end]))
}

function profileOf(row: ProfileRow): StoredProfile {
  return {
    customer: row.customer_id,
    profile: row.definition,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  }
}

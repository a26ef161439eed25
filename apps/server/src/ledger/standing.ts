import type { PoolClient } from 'pg'

/**
 * Whether an entry stands: it takes nothing back, and nothing has taken it back. Sums need no such condition,
 * because a reversal cancels what it takes back; what looks at events one by one does. `event` is its alias.
 */
export const STANDING = `event.entry_kind is distinct from 'reversal'
    and not exists (
      select from correction_target as target
      where target.organization_id = event.organization_id and target.event_id = event.event_id
    )`

const LOCK = "hashtext('tokentally.correction')"

/**
 * Waits for the corrections of these organizations, and holds off others until the transaction ends: nothing is
 * added to an event while it is being taken back.
 */
export async function lockAgainstCorrections(
  client: PoolClient,
  organizationIds: readonly string[],
): Promise<void> {
  await client.query(
    `select pg_advisory_xact_lock_shared(${LOCK}, hashtext(organization_id::text))
     from unnest($1::uuid[]) as organization (organization_id)`,
    [[...new Set(organizationIds)].sort()],
  )
}

/** Lets one correction of an organization at a time go on, and no late rating beside it, until its transaction ends. */
export async function lockForCorrection(client: PoolClient, organizationId: string): Promise<void> {
  await client.query(`select pg_advisory_xact_lock(${LOCK}, hashtext($1))`, [organizationId])
}

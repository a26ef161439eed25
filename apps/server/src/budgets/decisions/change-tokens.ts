import type { Pool } from 'pg'

/**
 * Recent batches that are counted to notice one that committed after a later one: numbers are given out when a
 * transaction begins.
 */
const RECENT_BATCHES = 2_000

// The newest batch alone would miss such a late one; it makes the count grow.
const TOKENS = `
  select asked.id, concat_ws(' ', coalesce(revision.revision, 0), newest.batch_id, recent.batches) as token
  from unnest($1::uuid[]) as asked (id)
  left join budget_revision as revision on revision.organization_id = asked.id
  cross join lateral (
    select max(batch_id) as batch_id from ledger_batch where organization_id = asked.id
  ) as newest
  cross join lateral (
    select count(*) as batches from ledger_batch
    where organization_id = asked.id and batch_id > newest.batch_id - ${RECENT_BATCHES}
  ) as recent`

/** For each organization a text that changes with its ledger, budgets, policies and credit. */
export async function changeTokens(
  pool: Pool,
  organizationIds: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const { rows } = await pool.query<{ id: string; token: string }>(TOKENS, [organizationIds])
  return new Map(rows.map((row) => [row.id, row.token]))
}

import { type Policy, parsePolicies } from '@tokentally/core'
import type { Pool, PoolClient } from 'pg'

/** A policy as it was applied last. */
export interface AppliedPolicy {
  readonly policy: Policy
  readonly appliedAt: Date
}

/** The policies in force, in the order of their file. */
export async function listPolicies(
  database: Pool | PoolClient,
  organizationId: string,
): Promise<readonly AppliedPolicy[]> {
  const { rows } = await database.query<{ definition: unknown; applied_at: Date }>(
    'select definition, applied_at from policy where organization_id = $1 order by position, name',
    [organizationId],
  )
  const parsed = parsePolicies({ policies: rows.map((row) => row.definition) })
  if (!parsed.ok) throw new Error(`stored policies are not valid: ${JSON.stringify(parsed.issues)}`)
  return parsed.policies.map((policy, index) => ({
    policy,
    appliedAt: rows[index]?.applied_at ?? new Date(0),
  }))
}

/** Puts policies in the place of those of the same names. */
export async function putPolicies(
  client: PoolClient,
  organizationId: string,
  policies: readonly Policy[],
  at: Date,
): Promise<void> {
  await client.query(
    `insert into policy (organization_id, name, position, definition, applied_at)
     select $1, name, position, definition, $5
     from unnest($2::text[], $3::int[], $4::jsonb[]) as policy (name, position, definition)
     on conflict (organization_id, name) do update
     set position = excluded.position, definition = excluded.definition, applied_at = excluded.applied_at`,
    [
      organizationId,
      policies.map((policy) => policy.name),
      policies.map((_, index) => index),
      policies.map((policy) => JSON.stringify(policy.source)),
      at,
    ],
  )
}

/** Forgets policies. */
export async function removePolicies(
  client: PoolClient,
  organizationId: string,
  names: readonly string[],
): Promise<void> {
  await client.query('delete from policy where organization_id = $1 and name = any($2::text[])', [
    organizationId,
    names,
  ])
}

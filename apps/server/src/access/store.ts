import type { Pool, PoolClient } from 'pg'
import { z } from 'zod'
import { inTransaction } from '../database/transaction.ts'
import type { Scope } from '../http/app.ts'

export const scopeSchema = z.enum(['ingest', 'read', 'write', 'admin'])

const grantRow = z.object({ organization_id: z.string(), id: z.string(), scopes: z.array(scopeSchema) })
const keyRow = z.object({
  id: z.string(),
  name: z.string(),
  scopes: z.array(scopeSchema),
  created_at: z.date(),
  revoked_at: z.date().nullable(),
})

/** Whom a key speaks for and what it may do. */
export interface Grant {
  readonly organizationId: string
  readonly apiKeyId: string
  readonly scopes: readonly Scope[]
}

/** A key as it is listed; the key itself is not known any more. */
export interface ApiKey {
  readonly id: string
  readonly name: string
  readonly scopes: readonly Scope[]
  readonly createdAt: Date
  readonly revokedAt: Date | undefined
}

interface NewKey {
  readonly organizationId: string
  readonly name: string
  readonly keyHash: Buffer
  readonly scopes: readonly Scope[]
}

/** What the key with this hash grants; nothing when it is unknown or revoked. */
export async function findGrant(pool: Pool, keyHash: Buffer): Promise<Grant | undefined> {
  const { rows } = await pool.query(
    'select organization_id, id, scopes from api_key where key_hash = $1 and revoked_at is null',
    [keyHash],
  )
  if (rows.length === 0) return undefined
  const row = grantRow.parse(rows[0])
  return { organizationId: row.organization_id, apiKeyId: row.id, scopes: row.scopes }
}

/** Which of these keys still work. */
export async function findActiveKeys(pool: Pool, ids: readonly string[]): Promise<ReadonlySet<string>> {
  const { rows } = await pool.query<{ id: string }>(
    'select id from api_key where id = any($1::uuid[]) and revoked_at is null',
    [ids],
  )
  return new Set(rows.map((row) => row.id))
}

/** All keys of an organization, newest first, revoked ones included. */
export async function listKeys(pool: Pool, organizationId: string): Promise<ApiKey[]> {
  const { rows } = await pool.query(
    `select id, name, scopes, created_at, revoked_at from api_key
     where organization_id = $1 order by created_at desc, id`,
    [organizationId],
  )
  return rows.map(toApiKey)
}

/** Adds a key. */
export async function insertKey(db: Pool | PoolClient, key: NewKey): Promise<ApiKey> {
  const { rows } = await db.query(
    `insert into api_key (organization_id, name, key_hash, scopes) values ($1, $2, $3, $4)
     returning id, name, scopes, created_at, revoked_at`,
    [key.organizationId, key.name, key.keyHash, key.scopes],
  )
  return toApiKey(rows[0])
}

/** Revokes a key. @returns whether there was one to revoke */
export async function revokeKey(pool: Pool, organizationId: string, id: string): Promise<boolean> {
  const { rowCount } = await pool.query(
    `update api_key set revoked_at = now() where organization_id = $1 and id = $2 and revoked_at is null`,
    [organizationId, id],
  )
  return rowCount === 1
}

/**
 * Creates the first organization with its owner's key, unless it is there already. Of several processes that
 * try at once, one does it.
 * @returns whether this call created it
 */
export async function createFirstOrganization(pool: Pool, name: string, keyHash: Buffer): Promise<boolean> {
  return inTransaction(pool, async (client) => {
    const { rows } = await client.query<{ id: string }>(
      'insert into organization (name) values ($1) on conflict (name) do nothing returning id',
      [name],
    )
    const [organization] = rows
    if (organization === undefined) return false
    await insertKey(client, { organizationId: organization.id, name: 'owner', keyHash, scopes: ['admin'] })
    return true
  })
}

/** The id of an organization; undefined when there is none of this name. */
export async function findOrganization(pool: Pool, name: string): Promise<string | undefined> {
  const { rows } = await pool.query<{ id: string }>('select id from organization where name = $1', [name])
  return rows[0]?.id
}

function toApiKey(row: unknown): ApiKey {
  const { id, name, scopes, created_at, revoked_at } = keyRow.parse(row)
  return { id, name, scopes, createdAt: created_at, revokedAt: revoked_at ?? undefined }
}

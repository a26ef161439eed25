import type { Pool, PoolClient } from 'pg'
import { z } from 'zod'
import { openSecret, sealSecret } from '../sealed-secret.ts'
import { type JsonObject, jsonObject } from './json.ts'

/** What an organization has set for a billing system. */
export interface SystemSettings {
  readonly organizationId: string
  readonly system: string
  readonly isEnabled: boolean
  readonly settings: JsonObject
  /** By name, sealed, in base64. */
  readonly sealedSecrets: Readonly<Record<string, string>>
  readonly updatedAt: Date
}

interface SettingsRow {
  readonly organization_id: string
  readonly system: string
  readonly is_enabled: boolean
  readonly settings: unknown
  readonly sealed_secrets: unknown
  readonly updated_at: Date
}

const sealedSchema = z.record(z.string(), z.string())

/** What organizations have set for one system, or an organization for all of them. */
export async function listSettings(
  database: Pool | PoolClient,
  { organizationId, system }: { readonly organizationId?: string; readonly system?: string },
): Promise<readonly SystemSettings[]> {
  const { rows } = await database.query<SettingsRow>(
    `select * from billing_system_settings
     where ($1::uuid is null or organization_id = $1) and ($2::text is null or system = $2)
     order by organization_id, system`,
    [organizationId ?? null, system ?? null],
  )
  return rows.map((row) => ({
    organizationId: row.organization_id,
    system: row.system,
    isEnabled: row.is_enabled,
    settings: jsonObject.parse(row.settings),
    sealedSecrets: sealedSchema.parse(row.sealed_secrets),
    updatedAt: row.updated_at,
  }))
}

/** @returns undefined when the organization has set nothing for the system */
export async function findSettings(
  database: Pool | PoolClient,
  organizationId: string,
  system: string,
): Promise<SystemSettings | undefined> {
  const [found] = await listSettings(database, { organizationId, system })
  return found
}

/** The same, kept from changing until the transaction ends. */
export async function settingsForUpdate(
  client: PoolClient,
  organizationId: string,
  system: string,
): Promise<SystemSettings | undefined> {
  await client.query(
    'select from billing_system_settings where organization_id = $1 and system = $2 for update',
    [organizationId, system],
  )
  return findSettings(client, organizationId, system)
}

/** Writes all settings of a system, over those before. */
export async function putSettings(
  database: Pool | PoolClient,
  { organizationId, system, isEnabled, settings, sealedSecrets, updatedAt }: SystemSettings,
): Promise<void> {
  await database.query(
    `insert into billing_system_settings (organization_id, system, is_enabled, settings, sealed_secrets, updated_at)
     values ($1, $2, $3, $4, $5, $6)
     on conflict (organization_id, system) do update
     set is_enabled = excluded.is_enabled, settings = excluded.settings, sealed_secrets = excluded.sealed_secrets,
       updated_at = excluded.updated_at`,
    [organizationId, system, isEnabled, JSON.stringify(settings), JSON.stringify(sealedSecrets), updatedAt],
  )
}

/** Forgets a system's settings with their secrets. @returns whether there were any */
export async function deleteSettings(pool: Pool, organizationId: string, system: string): Promise<boolean> {
  const { rowCount } = await pool.query(
    'delete from billing_system_settings where organization_id = $1 and system = $2',
    [organizationId, system],
  )
  return rowCount === 1
}

/** Seals a secret of a system's settings; it opens for this organization, system and name alone. */
export function sealSystemSecret(
  secretKey: Buffer,
  { organizationId, system }: Pick<SystemSettings, 'organizationId' | 'system'>,
  name: string,
  secret: string,
): string {
  return sealSecret(secretKey, ownerOf(organizationId, system, name), secret).toString('base64')
}

/** The secrets of a system's settings. @throws SealBroken */
export function openSystemSecrets(
  secretKey: Buffer,
  { organizationId, system, sealedSecrets }: SystemSettings,
): Record<string, string> {
  return Object.fromEntries(
    Object.entries(sealedSecrets).map(([name, sealed]) => [
      name,
      openSecret(secretKey, ownerOf(organizationId, system, name), Buffer.from(sealed, 'base64')),
    ]),
  )
}

function ownerOf(organizationId: string, system: string, name: string): readonly string[] {
  return [organizationId, 'billing-system', system, name]
}

import type { Pool } from 'pg'
import type { z } from 'zod'

/** What people edit for advice; each is read and written as a whole. */
export type AdviceSettingName = 'model_alternatives' | 'commitment_offers' | 'commitments'

export interface AdviceSetting<Definition> {
  readonly definition: Definition
  /** Null: nobody has set it, it is the default. */
  readonly updatedAt: Date | null
}

/** Reads a setting. @param fallback what it is until somebody sets it */
export async function readSetting<Definition>(
  pool: Pool,
  organizationId: string,
  name: AdviceSettingName,
  { schema, fallback }: { readonly schema: z.ZodType<Definition>; readonly fallback: Definition },
): Promise<AdviceSetting<Definition>> {
  const { rows } = await pool.query<{ definition: unknown; updated_at: Date }>(
    'select definition, updated_at from advice_setting where organization_id = $1 and name = $2',
    [organizationId, name],
  )
  const [row] = rows
  return row === undefined
    ? { definition: fallback, updatedAt: null }
    : { definition: schema.parse(row.definition), updatedAt: row.updated_at }
}

/** Writes a setting in place of what it was. */
export async function writeSetting(
  pool: Pool,
  by: { readonly organizationId: string; readonly apiKeyId: string; readonly at: Date },
  name: AdviceSettingName,
  definition: unknown,
): Promise<void> {
  await pool.query(
    `insert into advice_setting (organization_id, name, definition, updated_at, api_key_id)
     values ($1, $2, $3, $4, $5)
     on conflict (organization_id, name) do update
     set definition = excluded.definition, updated_at = excluded.updated_at, api_key_id = excluded.api_key_id`,
    [by.organizationId, name, JSON.stringify(definition), by.at, by.apiKeyId],
  )
}

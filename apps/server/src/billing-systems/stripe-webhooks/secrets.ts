import type { Pool } from 'pg'
import { z } from 'zod'
import { openSecret } from '../../sealed-secret.ts'

/** The secrets that Stripe signs its webhooks with, `whsec_…`. */

/** As in `billing_system_settings.system`. */
const SYSTEM = 'stripe'
/** One secret, or several apart by white space or commas while they are rotated. */
const SECRET_NAME = 'webhook_secret'
/** Organizations that the path without an id tries. */
const ORGANIZATIONS_MAX = 100

export interface WebhookSecrets {
  readonly organizationId: string
  readonly secrets: readonly string[]
}

/**
 * The organizations that take webhooks, by their ids; systems that are switched off take none.
 *
 * @param organizationId undefined: all, at most 100
 * @throws SealBroken
 */
export async function webhookSecrets(
  pool: Pool,
  secretKey: Buffer,
  organizationId: string | undefined,
): Promise<readonly WebhookSecrets[]> {
  const { rows } = await pool.query<{ organization_id: string; sealed: unknown }>(
    `select organization_id, sealed_secrets -> $2 as sealed
     from billing_system_settings
     where system = $1 and is_enabled and sealed_secrets ? $2
       and ($3::text is null or organization_id::text = $3)
     order by organization_id
     limit $4`,
    [SYSTEM, SECRET_NAME, organizationId?.toLowerCase() ?? null, ORGANIZATIONS_MAX],
  )
  return rows.map((row) => {
    const owner = [row.organization_id, 'billing-system', SYSTEM, SECRET_NAME]
    const opened = openSecret(secretKey, owner, Buffer.from(z.string().parse(row.sealed), 'base64'))
    return {
      organizationId: row.organization_id,
      secrets: opened.split(/[\s,]+/).filter((secret) => secret !== ''),
    }
  })
}

import type { Pool } from 'pg'
import { listSettings, openSystemSecrets } from '../settings-store.ts'

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
  const settings = await listSettings(pool, {
    system: SYSTEM,
    ...(organizationId !== undefined && { organizationId }),
  })
  return settings
    .filter(({ isEnabled, sealedSecrets }) => isEnabled && Object.hasOwn(sealedSecrets, SECRET_NAME))
    .slice(0, ORGANIZATIONS_MAX)
    .map((one) => ({
      organizationId: one.organizationId,
      secrets: (openSystemSecrets(secretKey, one)[SECRET_NAME] ?? '')
        .split(/[\s,]+/)
        .filter((secret) => secret !== ''),
    }))
}

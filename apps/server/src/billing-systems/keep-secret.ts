import type { Pool } from 'pg'
import { inTransaction } from '../database/transaction.ts'
import { openSystemSecrets, putSettings, sealSystemSecret, settingsForUpdate } from './settings-store.ts'

/** Stores a secret that the other system has changed, sealed, in the settings of the organization. */
export type KeepSecret = (secret: {
  readonly organizationId: string
  readonly system: string
  readonly name: string
  /** What it was: a secret that somebody has set meanwhile stays. */
  readonly before: string
  readonly value: string
}) => Promise<void>

export function createKeepSecret(pool: Pool, secretKey: Buffer): KeepSecret {
  return ({ organizationId, system, name, before, value }) =>
    inTransaction(pool, async (client) => {
      const found = await settingsForUpdate(client, organizationId, system)
      if (found === undefined || openSystemSecrets(secretKey, found)[name] !== before) return
      const sealed = sealSystemSecret(secretKey, found, name, value)
      await putSettings(client, { ...found, sealedSecrets: { ...found.sealedSecrets, [name]: sealed } })
    })
}

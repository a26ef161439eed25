import type { Pool } from 'pg'
import { generateApiKey, hashApiKey } from './api-key.ts'
import { createFirstOrganization } from './store.ts'

/** The organization of the first start, and of what the operator configures for the service as a whole. */
export const FIRST_ORGANIZATION = 'default'

/**
 * Creates the organization `default` and its owner's key at the first start.
 * @param given the key to use; generated when absent
 * @returns the key if this call created it, to be shown once
 */
export async function bootstrapOwner(pool: Pool, given: string | undefined): Promise<string | undefined> {
  const key = given ?? generateApiKey()
  const isCreated = await createFirstOrganization(pool, FIRST_ORGANIZATION, hashApiKey(key))
  return isCreated ? key : undefined
}

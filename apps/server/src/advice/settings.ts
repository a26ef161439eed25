import {
  type CommitmentOffer,
  commitmentOfferSchema,
  DEFAULT_MODEL_ALTERNATIVES,
  type ModelAlternatives,
  modelAlternativesSchema,
  type OwnedCommitment,
  ownedCommitmentSchema,
} from '@tokentally/core'
import type { Pool } from 'pg'
import { z } from 'zod'
import { type AdviceSetting, readSetting } from './setting-store.ts'

const LIST_MAX = 200

/** What can be bought; ids are unique. */
export const offersSchema = z.array(commitmentOfferSchema).max(LIST_MAX)
/** What has been bought; ids are unique. */
export const commitmentsSchema = z.array(ownedCommitmentSchema).max(LIST_MAX)

export function readAlternatives(
  pool: Pool,
  organizationId: string,
): Promise<AdviceSetting<ModelAlternatives>> {
  return readSetting(pool, organizationId, 'model_alternatives', {
    schema: modelAlternativesSchema,
    fallback: DEFAULT_MODEL_ALTERNATIVES,
  })
}

/** Empty until somebody sets them: what capacity costs stands in contracts more often than on price lists. */
export function readOffers(
  pool: Pool,
  organizationId: string,
): Promise<AdviceSetting<readonly CommitmentOffer[]>> {
  return readSetting(pool, organizationId, 'commitment_offers', { schema: offersSchema, fallback: [] })
}

export function readCommitments(
  pool: Pool,
  organizationId: string,
): Promise<AdviceSetting<readonly OwnedCommitment[]>> {
  return readSetting(pool, organizationId, 'commitments', { schema: commitmentsSchema, fallback: [] })
}

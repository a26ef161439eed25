import {
  type Advice,
  catalogueProvider,
  confidenceOf,
  decimal,
  reviewCapacity,
  SAVING_MIN_USD,
} from '@tokentally/core'
import type { Pool } from 'pg'
import { readDemand } from './demand-store.ts'
import { readCommitments } from './settings.ts'

/** Owned capacity of which a part would have been enough, as recommendations. */
export async function idleCommitments(
  pool: Pool,
  organizationId: string,
  nowMs: number,
): Promise<readonly Advice[]> {
  const advice: Advice[] = []
  const { definition: commitments } = await readCommitments(pool, organizationId)
  for (const owned of commitments) {
    if (owned.kind !== 'provisioned_throughput' || !isInForce(owned, nowMs)) continue
    const history = await readDemand(pool, organizationId, owned, nowMs)
    const { saving, best, current, weeklyUsd } = reviewCapacity(owned, history)
    if (saving === undefined || saving.usd.lt(decimal(SAVING_MIN_USD))) continue
    const confidence = confidenceOf(saving, history.weeks * 7, history.requests, false)
    if (confidence === undefined) continue
    advice.push({
      kind: 'idle_commitment',
      scope: { dimension: 'organization', value: null },
      subject: { provider: catalogueProvider(owned.provider), model: owned.model },
      alternative: { note: `${best.units} units of ${owned.id} instead of ${owned.units}.` },
      isGuess: false,
      saving,
      confidence,
      events: history.requests,
      currentUsd: current.totalUsd,
      alternativeUsd: best.totalUsd,
      priceVersionIds: [],
      history: { every: 'week', savedUsd: weeklyUsd },
      calledAs: history.calledAs,
      others: [],
    })
  }
  return advice
}

/** Whether a commitment binds on a day. */
export function isInForce(
  {
    valid_from: from,
    valid_until: until,
  }: { readonly valid_from: string; readonly valid_until?: string | undefined },
  nowMs: number,
): boolean {
  return Date.parse(from) <= nowMs && (until === undefined || nowMs < Date.parse(until))
}

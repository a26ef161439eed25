import { setImmediate as turn } from 'node:timers/promises'
import {
  type Advice,
  type AdviceContext,
  AdviceTally,
  adviseOnCalls,
  hostsOfModels,
  promptCaching,
  retriesAndErrors,
} from '@tokentally/core'
import type { Pool } from 'pg'
import type { RatingBookCache } from '../pricing/index.ts'
import { idleCommitments } from './idle-commitments.ts'
import { storeRun } from './recommendation-store.ts'
import { readAlternatives } from './settings.ts'
import { type DayOfCalls, firstUsageMs, readDay, readPriceSteps } from './usage-store.ts'

export interface AdviceDependencies {
  readonly pool: Pool
  readonly ratingBooks: RatingBookCache
  readonly now: () => Date
}

const DAY_MS = 24 * 3_600_000
/** Four whole weeks, so that every weekday counts alike. */
const WINDOW_DAYS = 28
/** The largest savings; nobody reads on. */
const ADVICE_MAX = 200
/** Groups that are re-priced until others may have a turn. */
const GROUPS_A_TURN = 50

/**
 * Computes an organization's recommendations from its last four weeks and keeps them in place of those before. May run
 * twice or beside itself: the same calls and prices give the same recommendations.
 *
 * @returns how many there are
 */
export async function adviseOrganization(
  { pool, ratingBooks, now }: AdviceDependencies,
  organizationId: string,
): Promise<{ readonly found: number; readonly at: Date }> {
  const at = now()
  const { prices: book } = await ratingBooks.refreshIfChanged()
  const steps = await readPriceSteps(pool, organizationId)
  const endMs = Math.floor(at.getTime() / DAY_MS) * DAY_MS
  const firstMs = Math.floor(((await firstUsageMs(pool, organizationId)) ?? endMs) / DAY_MS) * DAY_MS
  const startMs = Math.min(endMs, Math.max(endMs - WINDOW_DAYS * DAY_MS, firstMs))
  const atMs = at.getTime()
  const context: AdviceContext = {
    organizationId,
    book,
    atMs,
    alternatives: (await readAlternatives(pool, organizationId)).definition,
    hosts: hostsOfModels(book, organizationId, steps.providers, atMs),
  }
  const days = (endMs - startMs) / DAY_MS
  const tally = new AdviceTally(days)
  for (let day = 0; day < days; day++) {
    const dayMs = startMs + day * DAY_MS
    const sums = await readDay(pool, { organizationId, startMs: dayMs, endMs: dayMs + DAY_MS }, steps)
    await addDay(tally, day, sums, context)
  }
  const advice = [...tally.advice(), ...(await idleCommitments(pool, organizationId, atMs))]
    .sort((a: Advice, b: Advice) => b.saving.usd.cmp(a.saving.usd))
    .slice(0, ADVICE_MAX)
  await storeRun(pool, { organizationId, at, window: { startMs, endMs, pricesAtMs: atMs }, advice })
  return { found: advice.length, at }
}

async function addDay(
  tally: AdviceTally,
  day: number,
  sums: DayOfCalls,
  context: AdviceContext,
): Promise<void> {
  for (const [index, group] of sums.calls.entries()) {
    tally.add(day, adviseOnCalls(group, context))
    if (index % GROUPS_A_TURN === GROUPS_A_TURN - 1) await turn()
  }
  for (const repeated of sums.repeated) tally.add(day, promptCaching(repeated, context))
  for (const wasted of sums.wasted) tally.add(day, retriesAndErrors(wasted))
}

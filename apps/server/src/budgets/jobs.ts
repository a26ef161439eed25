import type { Pool } from 'pg'
import type { Jobs } from '../queue/jobs.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { refillAccounts } from './credit/refill.ts'
import { sweepHolds } from './holds/hold-store.ts'
import { checkLimits } from './self-check.ts'

const SWEEP_HOLDS = 'sweep-holds'
const SWEEP_EVERY_MS = 5_000
/** How long a hold that counts for nothing can still be looked at. */
const KEEP_HOLDS_MS = 30 * 24 * 3_600_000
const REFILL_CREDIT = 'refill-credit'
/** Calls are blocked at zero until then: thresholds leave room for a few seconds of usage. */
const REFILL_EVERY_MS = 5_000
const CHECK_LIMITS = 'check-limits'
const CHECK_EVERY_MS = 600_000

export interface BudgetJobDependencies {
  readonly pool: Pool
  readonly metrics: Metrics
  readonly now: () => Date
}

/** Names the jobs of budgets; each may run anywhere, twice or late. */
export function defineBudgetJobs(jobs: Jobs, { pool, metrics, now }: BudgetJobDependencies): void {
  jobs.define(
    SWEEP_HOLDS,
    async () => {
      const at = now()
      await sweepHolds(pool, at, new Date(at.getTime() - KEEP_HOLDS_MS))
    },
    { everyMs: SWEEP_EVERY_MS, isChore: true },
  )
  jobs.define(
    REFILL_CREDIT,
    async () => {
      await refillAccounts(pool, now())
    },
    { everyMs: REFILL_EVERY_MS, isChore: true },
  )
  jobs.define(
    CHECK_LIMITS,
    async () => {
      const check = await checkLimits(pool, now())
      metrics.limitDifferences.set(check.differences)
      metrics.staleHolds.set(check.staleHolds)
    },
    { everyMs: CHECK_EVERY_MS, isChore: true },
  )
}

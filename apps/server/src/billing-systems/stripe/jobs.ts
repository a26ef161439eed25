import type { Pool } from 'pg'
import type Stripe from 'stripe'
import type { Jobs } from '../../queue/jobs.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { Metrics } from '../../telemetry/metrics.ts'
import { listSettings, openSystemSecrets } from '../settings-store.ts'
import { reconcile } from './reconcile.ts'
import { API_KEY } from './settings.ts'

const RECONCILE = 'reconcile-stripe'
const DAY_MS = 24 * 3_600_000
/** Invoices of the last days, but for the last hour, in which much is still underway. */
const SPAN_MS = 3 * DAY_MS
const SETTLED_AFTER_MS = 3_600_000

export interface StripeJobDependencies {
  readonly pool: Pool
  readonly now: () => Date
  readonly secretKey: Buffer
  readonly clientFor: (apiKey: string) => Stripe
  readonly logger: Pick<Logger, 'warn'>
  readonly metrics: Pick<Metrics, 'billingDifferences'>
}

/** Names the job that compares the last days' invoices with Stripe, daily. */
export function defineReconcileJob(jobs: Pick<Jobs, 'define'>, dependencies: StripeJobDependencies): void {
  jobs.define(RECONCILE, () => reconcileAll(dependencies), { everyMs: DAY_MS, attempts: 3, isChore: true })
}

/** Compares every organization that uses Stripe; one whose Stripe fails does not hold up the others. */
export async function reconcileAll(dependencies: StripeJobDependencies): Promise<void> {
  const { pool, now, secretKey, clientFor, logger, metrics } = dependencies
  const to = new Date(now().getTime() - SETTLED_AFTER_MS)
  const from = new Date(to.getTime() - SPAN_MS)
  let count = 0
  for (const settings of await listSettings(pool, { system: 'stripe' })) {
    const { organizationId, isEnabled } = settings
    try {
      const apiKey = isEnabled ? openSystemSecrets(secretKey, settings)[API_KEY] : undefined
      if (apiKey === undefined) continue
      const result = await reconcile(pool, clientFor(apiKey), { organizationId, from, to })
      const differences = result?.differences.length ?? 0
      count += differences
      if (differences > 0)
        logger.warn({ organizationId, differences }, 'invoices at Stripe differ from those here')
    } catch (error) {
      logger.warn({ err: error, organizationId }, 'invoices could not be compared with Stripe')
    }
  }
  metrics.billingDifferences.set({ system: 'stripe' }, count)
}

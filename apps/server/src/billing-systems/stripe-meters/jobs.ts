import type { Jobs } from '../../queue/jobs.ts'
import type { Logger } from '../../telemetry/log.ts'
import { listSettings } from '../settings-store.ts'
import { type CountingDependencies, countUsage } from './count-usage.ts'

const COUNT = 'count-for-stripe-meters'
const COUNT_EVERY_MS = 3_600_000

export interface MeterJobDependencies extends CountingDependencies {
  readonly logger: Pick<Logger, 'warn' | 'error'>
}

/** Names the job that counts usage for Stripe's meters, hourly. It may run anywhere, twice or late. */
export function defineMeterJob(jobs: Pick<Jobs, 'define'>, dependencies: MeterJobDependencies): void {
  const { pool, logger } = dependencies
  jobs.define(
    COUNT,
    async () => {
      for (const { organizationId } of await listSettings(pool, { system: 'stripe' })) {
        try {
          const skipped = (await countUsage(dependencies, organizationId))?.skipped ?? []
          if (skipped.length > 0) {
            logger.warn({ organizationId, skipped: skipped.slice(0, 10) }, 'usage was not counted for Stripe')
          }
        } catch (error) {
          // One organization does not stop the others; the next run tries again.
          logger.error({ err: error, organizationId }, 'usage could not be counted for Stripe')
        }
      }
    },
    { everyMs: COUNT_EVERY_MS, isChore: true },
  )
}

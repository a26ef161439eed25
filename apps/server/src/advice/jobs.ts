import type { Jobs } from '../queue/jobs.ts'
import type { Logger } from '../telemetry/log.ts'
import { type AdviceDependencies, adviseOrganization } from './advise.ts'
import { lastRunAt } from './recommendation-store.ts'

const ADVISE = 'advise'
const HOUR_MS = 3_600_000
/** Looked at every hour, so that a run that died is not missed for a day. */
const EVERY_MS = HOUR_MS
const AGE_MIN_MS = 20 * HOUR_MS

/** Names the job that computes recommendations, once a day for each organization. */
export function defineAdviceJob(
  jobs: Jobs,
  dependencies: AdviceDependencies & { readonly logger: Logger },
): void {
  jobs.define(ADVISE, () => adviseAll(dependencies), { everyMs: EVERY_MS, attempts: 1, isChore: true })
}

async function adviseAll(dependencies: AdviceDependencies & { readonly logger: Logger }): Promise<void> {
  const { pool, now, logger } = dependencies
  const { rows } = await pool.query<{ id: string }>('select id from organization order by id')
  for (const { id } of rows) {
    const last = await lastRunAt(pool, id)
    if (last !== undefined && now().getTime() - last.getTime() < AGE_MIN_MS) continue
    // One organization's trouble is not another one's.
    await adviseOrganization(dependencies, id).catch((error: unknown) =>
      logger.error({ err: error, organizationId: id }, 'recommendations could not be computed'),
    )
  }
}

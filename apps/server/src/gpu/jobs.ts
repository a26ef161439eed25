import { GPU_SAMPLE_EVERY_MS } from '@tokentally/core'
import { FIRST_ORGANIZATION, findOrganization } from '../access/index.ts'
import type { GpuTarget } from '../gpu-targets.ts'
import type { Jobs } from '../queue/jobs.ts'
import type { Logger } from '../telemetry/log.ts'
import { type CloseDependencies, closeIntervals } from './close-intervals.ts'
import { deleteSamples } from './sample-store.ts'
import { scrapeTargets } from './scrape.ts'
import { INTERVAL_MS } from './series.ts'

const SCRAPE = 'scrape-gpus'
const CLOSE = 'close-gpu-intervals'
const TRIM = 'trim-gpu-samples'
const TRIM_EVERY_MS = 24 * 3_600_000
/** What was made of samples stays; they themselves are kept for whoever wants to see where a second came from. */
const KEEP_SAMPLES_MS = 7 * 24 * 3_600_000

export interface GpuJobDependencies extends CloseDependencies {
  readonly targets: readonly GpuTarget[]
  readonly logger: Pick<Logger, 'warn' | 'error'>
}

/**
 * Names the jobs of GPU time. They may run anywhere, twice or late. Without targets nothing is looked at any more,
 * but what was seen of targets that were there before still becomes events.
 */
export function defineGpuJobs(jobs: Pick<Jobs, 'define'>, dependencies: GpuJobDependencies): void {
  const { pool, now, targets } = dependencies
  if (targets.length > 0) {
    jobs.define(
      SCRAPE,
      async () => {
        const organizationId = await findOrganization(pool, FIRST_ORGANIZATION)
        if (organizationId !== undefined) await scrapeTargets(dependencies, organizationId, targets)
      },
      { everyMs: GPU_SAMPLE_EVERY_MS, attempts: 1 },
    )
  }
  jobs.define(CLOSE, () => closeIntervals(dependencies), {
    everyMs: INTERVAL_MS,
    attempts: 1,
    isChore: true,
  })
  jobs.define(TRIM, () => deleteSamples(pool, new Date(now().getTime() - KEEP_SAMPLES_MS)), {
    everyMs: TRIM_EVERY_MS,
    isChore: true,
  })
}

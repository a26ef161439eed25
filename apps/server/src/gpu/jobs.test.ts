import { Pool } from 'pg'
import { pino } from 'pino'
import { expect, it } from 'vitest'
import { readConfig } from '../config.ts'
import type { Jobs } from '../queue/jobs.ts'
import { createMetrics } from '../telemetry/metrics.ts'
import { defineGpuJobs } from './jobs.ts'

/** The names of the jobs that a service with these targets has. None of them is run. */
function jobsWith(targets: readonly object[]): readonly string[] {
  const names: string[] = []
  const jobs: Pick<Jobs, 'define'> = { define: (name) => names.push(name) }
  const environment = targets.length === 0 ? {} : { TOKENTALLY_GPU_TARGETS: JSON.stringify(targets) }
  defineGpuJobs(jobs, {
    pool: new Pool(),
    ledger: { append: async () => [] },
    metrics: createMetrics(),
    logger: pino({ level: 'silent' }),
    now: () => new Date(0),
    targets: readConfig(environment, false).gpuTargets,
  })
  return names
}

it('what was seen of GPUs still becomes events when no target is left', () => {
  expect(jobsWith([])).toEqual(['close-gpu-intervals', 'trim-gpu-samples'])
  expect(jobsWith([{ name: 'n', dcgm: 'http://127.0.0.1:9400', model: 'm' }])).toContain('scrape-gpus')
})

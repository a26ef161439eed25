import type { Pool } from 'pg'
import { createAnnouncer } from '../queue/announcer.ts'
import type { Jobs } from '../queue/jobs.ts'
import { rollUp } from './roll-up.ts'

const ROLL_UP = 'roll-up'
/** Rolled up this often even if no process announced anything: an announcement may die with its process. */
const EVERY_MS = 5_000
/** Appends announce themselves this often at most; reports are exact in between, only a little slower. */
const ANNOUNCE_EVERY_MS = 500

export interface RollupJobDependencies {
  readonly pool: Pool
  readonly now: () => Date
}

/** Names the rollup job; it may run anywhere, twice or late. */
export function defineRollupJobs(jobs: Jobs, { pool, now }: RollupJobDependencies): void {
  jobs.define(
    ROLL_UP,
    async () => {
      await rollUp(pool, now)
    },
    { everyMs: EVERY_MS, attempts: 1 },
  )
}

/**
 * Makes what the ledger calls after a commit: asks for a rollup soon, once for all commits of the last half
 * second. Failures are reported and forgotten, because the schedule comes by anyway.
 */
export function createRollupAnnouncer(jobs: Jobs, onError: (error: unknown) => void): () => void {
  return createAnnouncer(jobs, ROLL_UP, { everyMs: ANNOUNCE_EVERY_MS, onError })
}

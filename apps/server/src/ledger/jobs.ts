import type { Pool } from 'pg'
import type { RatingBookCache } from '../pricing/index.ts'
import type { Jobs } from '../queue/jobs.ts'
import { rateLate } from './rate-late.ts'

const RATE_LATE = 'rate-late'
/** A price is announced when it arrives; this is for announcements that died with their process. */
const EVERY_MS = 60_000

export interface LateRatingDependencies {
  readonly pool: Pool
  readonly ratingBooks: RatingBookCache
  readonly now: () => Date
}

/** Names the job that rates what had no price on arrival. */
export function defineLateRatingJob(jobs: Jobs, { pool, ratingBooks, now }: LateRatingDependencies): void {
  jobs.define(
    RATE_LATE,
    async () => {
      await rateLate(pool, await ratingBooks.refreshIfChanged(), now)
    },
    { everyMs: EVERY_MS, attempts: 3 },
  )
}

/** Asks for late rating now; to be called after a price was added. */
export function announcePriceChange(jobs: Jobs): Promise<void> {
  return jobs.add(RATE_LATE)
}

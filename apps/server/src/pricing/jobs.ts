import { CatalogueFileError } from '@tokentally/prices'
import type { Pool } from 'pg'
import type { Jobs } from '../queue/jobs.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { PriceFileUnavailable, priceFileSource, readPriceFile } from './price-file.ts'
import type { RatingBookCache } from './rating-book-cache.ts'
import { refreshCatalogue } from './refresh.ts'
import { countWaiting } from './refresh-store.ts'

const REFRESH_PRICES = 'refresh-prices'
const EVERY_MS = 24 * 3_600_000

export interface PriceRefreshDependencies {
  readonly pool: Pool
  readonly ratingBooks: RatingBookCache
  readonly metrics: Metrics
  readonly logger: Logger
  readonly now: () => Date
  /** Called after prices were added, when events that waited for one can be rated. */
  readonly priceAdded: () => Promise<void>
  /** URL or path of the price file; undefined: there is nothing to do. */
  readonly url: string | undefined
}

/** Names the job that looks at the configured price file once a day. */
export function definePriceRefreshJob(jobs: Jobs, dependencies: PriceRefreshDependencies): void {
  const { url } = dependencies
  if (url === undefined) return
  jobs.define(REFRESH_PRICES, () => refreshFrom(dependencies, url), {
    everyMs: EVERY_MS,
    attempts: 5,
    isChore: true,
  })
}

/** Takes over what a price file says newly. A file that is not valid changes nothing, and is not tried again. */
export async function refreshFrom(
  { pool, ratingBooks, metrics, logger, now, priceAdded }: PriceRefreshDependencies,
  url: string,
): Promise<void> {
  const source = priceFileSource(url)
  try {
    const refresh = await refreshCatalogue(pool, await readPriceFile(url), { source, now })
    if (refresh === undefined) return
    logger.info(
      { source, refresh: refresh.id, addedPrices: refresh.addedPrices },
      'the price file has changed',
    )
    await ratingBooks.refresh()
    await priceAdded()
  } catch (error) {
    if (error instanceof CatalogueFileError || error instanceof PriceFileUnavailable) {
      metrics.priceRefreshFailures.inc()
      logger.warn({ source, err: error }, 'the price file cannot be used; prices stay as they are')
    }
    // A file that is there and broken is broken a second later, too.
    if (!(error instanceof CatalogueFileError)) throw error
  }
}

/** Shows in the metrics what waits for a person. */
export async function refreshPriceMetric(pool: Pool, { priceRefreshesWaiting }: Metrics): Promise<void> {
  priceRefreshesWaiting.set(await countWaiting(pool))
}

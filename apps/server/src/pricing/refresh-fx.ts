import type { Pool } from 'pg'
import { collectBytes } from '../http/collect-bytes.ts'
import type { Jobs } from '../queue/jobs.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { ECB } from './currency-store.ts'
import { readRatesFile } from './ecb-file.ts'
import { fromDaily, type LoadedRates, loadRates } from './load-rates.ts'
import type { RatingBookCache } from './rating-book-cache.ts'

const REFRESH_FX = 'refresh-fx'
/** The bank publishes once a working day, around 16:00 in Frankfurt; an hour late is in time for the next day. */
const EVERY_MS = 3_600_000
const TIMEOUT_MS = 30_000
/** The whole history since 1999 has about 9 MB. */
const BYTES_MAX = 64 * 1024 * 1024

export interface RefreshFxDependencies {
  readonly pool: Pool
  readonly ratingBooks: RatingBookCache
  readonly metrics: Metrics
  readonly logger: Logger
  /** Undefined: rates are only loaded from files. */
  readonly fxUrl: string | undefined
}

/** Names the job that fetches exchange rates. A failure is logged once, counted each time, and tried again in an hour. */
export function defineFxJob(jobs: Jobs, dependencies: RefreshFxDependencies): void {
  const { metrics, logger, fxUrl } = dependencies
  let isFailing = false
  jobs.define(
    REFRESH_FX,
    async () => {
      if (fxUrl === undefined) return
      try {
        const loaded = await refreshFx(dependencies, fxUrl)
        if (loaded.differing.length > 0) {
          logger.warn({ differing: loaded.differing }, 'exchange rates differ from those kept, which stand')
        }
        if (isFailing) logger.info({ url: fxUrl }, 'exchange rates can be fetched again')
        isFailing = false
      } catch (error) {
        metrics.fxRefreshFailures.inc()
        if (!isFailing) logger.warn({ err: error, url: fxUrl }, 'exchange rates could not be fetched')
        isFailing = true
      }
    },
    { everyMs: EVERY_MS, isChore: true },
  )
}

/**
 * Fetches the rates of the European Central Bank and keeps what is new.
 *
 * @throws Error when there is no answer, or one that is no file of rates
 */
export async function refreshFx(
  dependencies: Pick<RefreshFxDependencies, 'pool' | 'ratingBooks'>,
  url: string,
): Promise<LoadedRates> {
  const response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) })
  if (response.status !== 200) {
    await response.body?.cancel()
    throw new Error(`answered ${response.status}`)
  }
  const tooLarge = () => new Error(`answered more than ${BYTES_MAX} bytes`)
  const file = await collectBytes(response.body ?? [], BYTES_MAX, tooLarge)
  const rates = readRatesFile(file.toString('utf8'))
  return loadRates(dependencies, { owner: null, source: ECB }, fromDaily(rates))
}

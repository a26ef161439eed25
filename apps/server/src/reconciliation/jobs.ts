import { setTimeout as delay } from 'node:timers/promises'
import {
  decimal,
  decimalText,
  divideToSignificant,
  isVendor,
  VENDORS,
  type Vendor,
  ZERO,
} from '@tokentally/core'
import { BillingError } from '@tokentally/providers'
import type { Pool } from 'pg'
import type { GuardOptions } from '../http/guarded-request.ts'
import type { RatingBookCache } from '../pricing/index.ts'
import type { Jobs } from '../queue/jobs.ts'
import { openSecret, SealBroken } from '../sealed-secret.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import {
  deleteCoverage,
  findConnection,
  listDueConnections,
  lowestCoverages,
  noteFetch,
  saveCoverage,
} from './connection-store.ts'
import { fetchFigures, isFetched, VendorFetchError } from './fetch-vendor.ts'
import { insertImport } from './import-store.ts'
import { dayOf, reconcileVendor } from './report.ts'

const FETCH = 'fetch-vendor-figures'
/** Looked for this often; each vendor is asked once a day. */
const FETCH_EVERY_MS = 3_600_000
const FETCHED_FOR_MS = 20 * 3_600_000
/** Vendors still correct figures of this many days. */
const REFETCHED_DAYS = 7
const COMPARE = 'compare-vendor-figures'
const COMPARE_EVERY_MS = 6 * 3_600_000
const COMPARED_DAYS = 30
const RATIO_DIGITS = 6
const DAY_MS = 24 * 3_600_000

export interface ReconciliationJobDependencies {
  readonly pool: Pool
  readonly ratingBooks: RatingBookCache
  readonly metrics: Metrics
  readonly logger: Logger
  readonly now: () => Date
  /** Of the service, 32 bytes. */
  readonly secretKey: Buffer
  readonly guard: GuardOptions
}

/** Names the jobs that fetch vendors' figures and compare them. They may run anywhere, twice or late. */
export function defineReconciliationJobs(
  jobs: Pick<Jobs, 'define'>,
  dependencies: ReconciliationJobDependencies,
): void {
  const { pool, now } = dependencies
  jobs.define(
    FETCH,
    async ({ organizationId, vendor }) => {
      if (typeof organizationId === 'string' && typeof vendor === 'string') {
        if (isVendor(vendor)) await fetchVendor(dependencies, organizationId, vendor)
        return
      }
      for (const due of await listDueConnections(pool, new Date(now().getTime() - FETCHED_FOR_MS))) {
        if (isVendor(due.vendor)) await fetchVendor(dependencies, due.organizationId, due.vendor)
      }
    },
    { everyMs: FETCH_EVERY_MS, isChore: true, attempts: 1 },
  )
  jobs.define(
    COMPARE,
    async ({ organizationId }) => {
      const { rows } = await pool.query<{ id: string }>('select id from organization order by id')
      for (const { id } of rows) {
        if (typeof organizationId === 'string' && organizationId !== id) continue
        for (const vendor of VENDORS) await compare(dependencies, id, vendor)
      }
    },
    { everyMs: COMPARE_EVERY_MS, isChore: true },
  )
}

/** Asks for a vendor to be fetched now. */
export function announceFetch(
  jobs: Pick<Jobs, 'add'>,
  organizationId: string,
  vendor: Vendor,
): Promise<void> {
  return jobs.add(FETCH, { organizationId, vendor }, { dedupeId: `${FETCH}-${organizationId}-${vendor}` })
}

/** Asks for the shown coverage to be computed anew. */
export function announceComparison(jobs: Pick<Jobs, 'add'>, organizationId: string): Promise<void> {
  return jobs.add(COMPARE, { organizationId }, { dedupeId: `${COMPARE}-${organizationId}` })
}

/** Fetches the figures of the last days. A failure stands at the connection, is counted, and tried again in an hour. */
async function fetchVendor(
  dependencies: ReconciliationJobDependencies,
  organizationId: string,
  vendor: Vendor,
): Promise<void> {
  const { pool, now, metrics, logger, secretKey, guard } = dependencies
  const connection = await findConnection(pool, organizationId, vendor)
  if (connection?.isEnabled !== true || connection.sealedKey === null || !isFetched(vendor)) return
  const at = now()
  const today = Math.floor(at.getTime() / DAY_MS) * DAY_MS
  try {
    const figures = fetchFigures(
      { guard, now, wait: (ms) => delay(ms) },
      {
        vendor,
        baseUrl: connection.baseUrl,
        adminKey: openSecret(secretKey, [organizationId, 'vendor', vendor], connection.sealedKey),
        startMs: today - REFETCHED_DAYS * DAY_MS,
        endMs: today,
      },
    )
    for await (const one of figures) {
      await insertImport(pool, { organizationId, origin: 'api', figures: one, apiKeyId: null, now: at })
    }
    await noteFetch(pool, organizationId, vendor, { at, error: null })
  } catch (error) {
    if (!(error instanceof VendorFetchError || error instanceof BillingError || error instanceof SealBroken))
      throw error
    metrics.vendorFetchFailures.inc({ vendor })
    logger.warn({ err: error, vendor }, "a vendor's figures could not be fetched")
    await noteFetch(pool, organizationId, vendor, { at, error: error.message })
    return
  }
  await compare(dependencies, organizationId, vendor)
}

async function compare(
  dependencies: ReconciliationJobDependencies,
  organizationId: string,
  vendor: Vendor,
): Promise<void> {
  const { pool, now } = dependencies
  const today = Math.floor(now().getTime() / DAY_MS) * DAY_MS
  const result = await reconcileVendor(dependencies, {
    organizationId,
    vendor,
    startDay: dayOf(today - COMPARED_DAYS * DAY_MS),
    endDay: dayOf(today),
    groupBy: [],
    tolerance: decimal('0'),
  })
  if (result === undefined) {
    await deleteCoverage(pool, organizationId, vendor)
    return
  }
  const { vendorTokens, meteredTokens, vendorCostUsd, meteredCostUsd } = result.coverage
  await saveCoverage(
    pool,
    {
      organizationId,
      vendor,
      tokensRatio: ratioOf(meteredTokens, vendorTokens),
      costRatio: ratioOf(meteredCostUsd, vendorCostUsd),
    },
    now(),
  )
}

function ratioOf(part: typeof ZERO | undefined, whole: typeof ZERO | undefined): string | null {
  if (part === undefined || whole === undefined || whole.lte(ZERO)) return null
  return part.lte(ZERO) ? '0' : decimalText(divideToSignificant(part, whole, RATIO_DIGITS))
}

/** Shows the last comparisons among the metrics. */
export async function refreshReconciliationMetric(pool: Pool, metrics: Metrics): Promise<void> {
  metrics.reconciliationCoverage.reset()
  for (const { vendor, ratio } of await lowestCoverages(pool)) {
    metrics.reconciliationCoverage.set({ vendor }, ratio)
  }
}

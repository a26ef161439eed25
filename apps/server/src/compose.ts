import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Pool } from 'pg'
import { authenticate, bootstrapOwner, registerAccessRoutes } from './access/index.ts'
import { defineAdviceJob, registerAdviceRoutes } from './advice/index.ts'
import {
  createEvaluationAnnouncer,
  createMailer,
  defineAlertJobs,
  registerAlertRoutes,
} from './alerts/index.ts'
import {
  createBillingSystems,
  createHandOverAnnouncer,
  createKeepSecret,
  createOutboxAnnouncer,
  createStripeClients,
  defineMeterJob,
  defineOutboxJobs,
  defineReconcileJob,
  deliveriesOf,
  refreshOutboxMetrics,
  registerJournalRoutes,
  registerMeterRoutes,
  registerOutboxRoutes,
  registerReconciliation,
  registerSettingsRoutes,
  registerStripeWebhookRoutes,
  replayStripeEvents,
} from './billing-systems/index.ts'
import {
  budgetStatuses,
  DecisionHub,
  defineBudgetJobs,
  HoldDesk,
  registerBudgetRoutes,
  registerCreditRoutes,
  registerDecisionRoutes,
  registerHoldRoutes,
  registerPolicyRoutes,
} from './budgets/index.ts'
import { type Config, ConfigError } from './config.ts'
import { registerCorrectionRoutes } from './corrections/index.ts'
import { startEmbeddedDatabase } from './database/embedded.ts'
import { migrate } from './database/migrate.ts'
import { createPool } from './database/pool.ts'
import { isDatabaseUnavailable } from './database/unavailable.ts'
import { defineForecastJobs, ForecastThread, registerForecastRoutes } from './forecast/index.ts'
import { defineGpuJobs, registerGpuRoutes } from './gpu/index.ts'
import { allowedTargets } from './http/forbidden-address.ts'
import { registerHealthRoutes } from './http/health-routes.ts'
import { listen } from './http/listener.ts'
import { createApp } from './http/server.ts'
import { defineDeadLetterJob, registerIngestRoutes, submitOne } from './ingest/index.ts'
import {
  defineInvoicingJobs,
  invoiceCsv,
  linesOfEvent,
  registerCreditNoteRoutes,
  registerDocumentRoutes,
  registerInvoiceRoutes,
  registerInvoiceSimulationRoutes,
  registerPayoutRoutes,
  registerProfileRoutes,
  registerSellerRoutes,
} from './invoicing/index.ts'
import { announcePriceChange, defineLateRatingJob, Ledger } from './ledger/index.ts'
import {
  bundledCatalogue,
  bundledCatalogueSource,
  createRatingBookCache,
  defineFxJob,
  definePriceRefreshJob,
  importCatalogue,
  refreshPriceMetric,
  registerCurrencyRoutes,
  registerMarkupRoutes,
  registerPricingRoutes,
} from './pricing/index.ts'
import { BullmqJobs } from './queue/bullmq-jobs.ts'
import { createPostgresStore, createRedisStore } from './queue/job-store.ts'
import {
  announceComparison,
  announceFetch,
  defineReconciliationJobs,
  refreshReconciliationMetric,
  registerReconciliationRoutes,
} from './reconciliation/index.ts'
import { registerReportRoutes } from './reports/index.ts'
import { createRollupAnnouncer, defineRollupJobs, rollupLag } from './rollups/index.ts'
import { embeddedSecretKey } from './secret-key.ts'
import { registerSimulationRoutes } from './simulation/index.ts'
import type { Logger } from './telemetry/log.ts'
import { createMetrics } from './telemetry/metrics.ts'
import { defineDriftJob, refreshDriftMetric, registerTokenizerRoutes } from './tokenizers/index.ts'

const VERSION = '0.1.0'
/** At most this many queues of jobs are listened to in one process. */
const JOB_WORKERS_MAX = 8
const DATABASE_RETRY_MS = 1_000
/** SQLSTATEs of a database that answers, but not to us: waiting does not help. */
const REFUSALS = new Set(['28P01', '28000', '3D000', '42501'])

/** The running service. */
export interface Service {
  readonly url: string
  /** The owner's API key, at the first start only. */
  readonly newOwnerKey: string | undefined
  /** Process id of the embedded PostgreSQL, when there is one. */
  databasePid(): number | undefined
  /** Finishes what is in flight, then closes everything in reverse order. */
  stop(): Promise<void>
}

/**
 * Builds the service and starts it. Resolves when it is ready; the port answers 503 until then. A database that
 * is away is waited for.
 * @throws {ConfigError} when a setting turns out to be wrong
 */
export async function startService(
  config: Config,
  logger: Logger,
  now: () => Date = () => new Date(),
): Promise<Service> {
  const closers: (() => Promise<void>)[] = []
  const stop = async () => {
    for (const close of closers.splice(0).reverse()) {
      await close().catch((error: unknown) => logger.error({ err: error }, 'a part did not stop cleanly'))
    }
  }
  try {
    return await build(config, logger, now, closers, stop)
  } catch (error) {
    await stop()
    throw error
  }
}

async function build(
  config: Config,
  logger: Logger,
  now: () => Date,
  closers: (() => Promise<void>)[],
  stop: () => Promise<void>,
): Promise<Service> {
  let missing = 'database'
  const listener = await listen({ host: config.host, port: config.port, missing: () => missing }).catch(
    (error: unknown) => {
      throw listenError(config, error)
    },
  )
  // The port closes before anything behind it does; see the last closer.
  let isListening = true
  const stopListening = async () => {
    if (!isListening) return
    isListening = false
    await listener.stop()
  }
  closers.push(stopListening)

  const embedded =
    config.databaseUrl === undefined
      ? await startEmbeddedDatabase({ dataDir: config.dataDir, logger })
      : undefined
  if (embedded !== undefined) closers.push(() => embedded.stop())
  const secretKey = config.secretKey ?? (await embeddedSecretKey(config.dataDir))
  const databaseUrl = embedded?.url ?? config.databaseUrl
  if (databaseUrl === undefined) throw new ConfigError('DATABASE_URL: is missing')
  const pool = createPool({
    url: databaseUrl,
    maxConnections: config.databasePoolMax,
    applicationName: 'tokentally',
    logger,
  })
  closers.push(() => pool.end())

  missing = 'migrations'
  await untilDatabaseAnswers(logger, () => migrate(databaseUrl))
  const newOwnerKey = await bootstrapOwner(pool, config.bootstrapKey)
  await importCatalogue(pool, await bundledCatalogue(), { source: bundledCatalogueSource(), now })
  const ratingBooks = await createRatingBookCache(pool)

  missing = 'queue'
  const metrics = createMetrics()
  const jobs = new BullmqJobs(
    config.redisUrl === undefined
      ? createPostgresStore({ url: databaseUrl, maxWorkers: JOB_WORKERS_MAX, logger })
      : createRedisStore(config.redisUrl),
    { logger },
  )
  closers.push(() => jobs.stop())
  defineRollupJobs(jobs, { pool, now })
  defineLateRatingJob(jobs, { pool, ratingBooks, now })
  defineDeadLetterJob(jobs, { pool, now })
  defineFxJob(jobs, { pool, ratingBooks, metrics, logger, fxUrl: config.fxUrl })
  defineDriftJob(jobs, { pool, logger, now })
  defineBudgetJobs(jobs, { pool, metrics, now })
  defineAdviceJob(jobs, { pool, ratingBooks, now, logger })
  const forecasting = { pool, now, thread: new ForecastThread() }
  closers.push(() => forecasting.thread.close())
  defineForecastJobs(jobs, { ...forecasting, logger, metrics, scopesMax: config.forecastScopesMax })

  const alerting = {
    pool,
    now,
    random: Math.random,
    logger,
    metrics,
    secretKey,
    publicUrl: config.publicUrl,
    guard: { allowed: allowedTargets(config.webhookAllow) },
    mailer: config.smtp === undefined ? undefined : createMailer(config.smtp),
  }
  defineAlertJobs(jobs, { ...alerting, budgetStatuses: (request) => budgetStatuses(pool, request) })

  const stripeFor = createStripeClients({ url: config.stripeUrl })
  const systems = createBillingSystems({
    guard: alerting.guard,
    documentsDir: config.invoiceDir,
    keepSecret: createKeepSecret(pool, secretKey),
    stripe: stripeFor,
  })
  defineOutboxJobs(jobs, { pool, systems, secretKey, now, random: Math.random, logger, metrics })
  defineMeterJob(jobs, { pool, now, logger })
  defineReconcileJob(jobs, { pool, now, secretKey, clientFor: stripeFor, logger, metrics })
  const announceHandOver = createHandOverAnnouncer(jobs, (error) =>
    logger.warn({ err: error }, 'a hand-over of invoices was not announced'),
  )
  defineInvoicingJobs(jobs, { pool, now, logger, onChanged: announceHandOver })
  const announceSteps = createOutboxAnnouncer(jobs, (error) =>
    logger.warn({ err: error }, 'steps of the outbox were not announced'),
  )
  const reconciling = { pool, ratingBooks, metrics, logger, now, secretKey, guard: alerting.guard }
  defineReconciliationJobs(jobs, reconciling)

  const announceRollup = createRollupAnnouncer(jobs, (error) =>
    logger.warn({ err: error }, 'a rollup was not announced'),
  )
  const announceEvaluation = createEvaluationAnnouncer(jobs, (error) =>
    logger.warn({ err: error }, 'an evaluation of alerts was not announced'),
  )
  const onAppended = () => {
    announceRollup()
    announceEvaluation()
  }
  const ledger = new Ledger({ pool, ratingBooks, metrics, now, onAppended })

  const priceAdded = () => announcePriceChange(jobs)
  definePriceRefreshJob(jobs, { pool, ratingBooks, metrics, logger, now, priceAdded, url: config.pricesUrl })
  defineGpuJobs(jobs, { pool, ledger, metrics, logger, now, targets: config.gpuTargets })

  const app = await createApp({ logger, metrics, bodyMaxBytes: config.bodyMaxBytes, version: VERSION })
  registerHealthRoutes(app, {
    metrics,
    checks: { database: () => answers(pool), queue: () => jobs.ping() },
    refreshGauges: async () => {
      metrics.queueDepth.set(await jobs.depth())
      const lag = await rollupLag(pool, now)
      metrics.openBatches.set(lag.openBatches)
      metrics.rollupLagSeconds.set(lag.lagSeconds)
      await refreshDriftMetric(pool, metrics)
      await refreshPriceMetric(pool, metrics)
      await refreshOutboxMetrics({ pool, systems, now }, metrics)
      await refreshReconciliationMetric(pool, metrics)
    },
  })
  const nowMs = () => now().getTime()
  const cache = authenticate(app, { pool, nowMs })
  const holds = new HoldDesk({ pool, now })
  const decisions = new DecisionHub({ pool, logger, now })
  if (config.roles.includes('api')) {
    registerAccessRoutes(app, { pool, cache })
    registerMarkupRoutes(app, { pool, ratingBooks, now })
    registerCurrencyRoutes(app, { pool, ratingBooks, now })
    registerPricingRoutes(app, {
      pool,
      ratingBooks,
      metrics,
      now,
      priceAdded,
      pricesUrl: config.pricesUrl,
      bodyMaxBytes: config.bodyMaxBytes,
    })
    registerReportRoutes(app, {
      pool,
      now,
      invoiceCsv: (organizationId, invoiceId) => invoiceCsv(pool, { organizationId, invoiceId }),
      invoiceLinesOf: (organizationId, eventId) => linesOfEvent(pool, organizationId, eventId),
    })
    registerSimulationRoutes(app, { pool, now, logger })
    registerCorrectionRoutes(app, { pool, ratingBooks, now, newCorrectionId: randomUUID, onAppended })
    registerBudgetRoutes(app, { pool, now })
    registerPolicyRoutes(app, { pool, now })
    registerCreditRoutes(app, { pool, now })
    registerDecisionRoutes(app, decisions)
    registerHoldRoutes(app, {
      pool,
      desk: holds,
      now,
      ratingBooks,
      ingest: (sender, event) => submitOne({ ledger, metrics, now }, sender, event),
    })
    registerGpuRoutes(app, { pool, now })
    registerAdviceRoutes(app, { pool, ratingBooks, now })
    registerTokenizerRoutes(app, { pool, now })
    registerForecastRoutes(app, forecasting)
    registerAlertRoutes(app, alerting)
    registerInvoiceRoutes(app, {
      pool,
      now,
      deliveriesOf: async (organizationId, id) =>
        (await deliveriesOf(pool, organizationId, [id])).get(id) ?? [],
      onChanged: announceHandOver,
    })
    registerJournalRoutes(app, { pool, now })
    registerSettingsRoutes(app, { pool, now, secretKey, systems, onSettings: announceHandOver })
    registerReconciliation(app, { pool, now, secretKey, clientFor: stripeFor })
    registerMeterRoutes(app, { pool, now, onPlanned: announceSteps })
    registerOutboxRoutes(app, { pool, now, onRetry: announceSteps })
    registerCreditNoteRoutes(app, { pool, now, newCreditNoteId: randomUUID, onIssued: announceHandOver })
    registerPayoutRoutes(app, {
      pool,
      now,
      newPayoutId: randomUUID,
      onRecorded: (client, organizationId, externalId) =>
        replayStripeEvents(client, { organizationId, newCreditNoteId: randomUUID }, externalId),
    })
    registerStripeWebhookRoutes(app, {
      pool,
      now,
      secretKey,
      logger,
      newCreditNoteId: randomUUID,
      onApplied: announceHandOver,
    })
    registerProfileRoutes(app, { pool, now })
    registerSellerRoutes(app, { pool, now })
    registerDocumentRoutes(app, { pool })
    registerInvoiceSimulationRoutes(app, { pool, now, logger })
    const soon = (work: Promise<void>) => {
      work.catch((error: unknown) => logger.warn({ err: error }, 'a job of reconciliation was not announced'))
    }
    registerReconciliationRoutes(app, {
      ...reconciling,
      imported: (organizationId) => soon(announceComparison(jobs, organizationId)),
      connected: (organizationId, vendor) => soon(announceFetch(jobs, organizationId, vendor)),
    })
    registerIngestRoutes(app, {
      pool,
      ledger,
      metrics,
      now,
      bodyMaxBytes: config.bodyMaxBytes,
      onError: (error) => logger.error({ err: error }, 'a dead letter could not be stored'),
    })
  }
  closers.push(() => app.close())

  if (config.roles.includes('worker')) await jobs.start()
  closers.push(() => ledger.drain())
  closers.push(() => holds.drain())
  await listener.serve(app)
  closers.push(stopListening)
  // A stop waits for what is in flight, and streams are for ever.
  closers.push(() => decisions.close())
  return { url: listener.url, newOwnerKey, databasePid: () => embedded?.pid(), stop }
}

async function answers(pool: Pool): Promise<void> {
  await pool.query('select 1')
}

/** Repeats work at the start until the database is there. @throws when it refuses us for good */
async function untilDatabaseAnswers(logger: Logger, work: () => Promise<void>): Promise<void> {
  for (;;) {
    try {
      await work()
      return
    } catch (error) {
      if (
        error instanceof Error &&
        'code' in error &&
        typeof error.code === 'string' &&
        REFUSALS.has(error.code)
      ) {
        throw new ConfigError(`DATABASE_URL: ${error.message}`)
      }
      if (!isDatabaseUnavailable(error)) throw error
      logger.warn({ err: error }, 'the database does not answer yet; waiting')
      await delay(DATABASE_RETRY_MS)
    }
  }
}

function listenError(config: Config, error: unknown): unknown {
  if (!(error instanceof Error && 'code' in error)) return error
  if (error.code === 'EADDRINUSE' || error.code === 'EACCES') {
    return new ConfigError(`TOKENTALLY_PORT: port ${config.port} cannot be opened (${String(error.code)})`)
  }
  if (error.code === 'EADDRNOTAVAIL' || error.code === 'ENOTFOUND') {
    return new ConfigError(`TOKENTALLY_HOST: ${config.host} is not an address of this machine`)
  }
  return error
}

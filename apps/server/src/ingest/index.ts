import { randomUUID } from 'node:crypto'
import type { Pool } from 'pg'
import type { App } from '../http/app.ts'
import type { Ledger } from '../ledger/index.ts'
import type { Jobs } from '../queue/jobs.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { registerDeadLetterRoutes } from './dead-letter-routes.ts'
import { DeadLetters, trimDeadLetters } from './dead-letters.ts'
import { registerTraceRoutes } from './trace-routes.ts'
import { registerUsageRoutes } from './usage-routes.ts'

export { listDeadLetters, replayDeadLetters } from './dead-letters.ts'

export interface IngestDependencies {
  readonly pool: Pool
  readonly ledger: Pick<Ledger, 'append'>
  readonly metrics: Metrics
  readonly now: () => Date
  /** Largest body as it arrives; decompressed it may be twice that. */
  readonly bodyMaxBytes: number
  readonly onError: (error: unknown) => void
}

/** The two doors of ingestion, `POST /v1/traces` and `POST /api/v1/usage`, and what they set aside. */
export function registerIngestRoutes(app: App, dependencies: IngestDependencies): void {
  const { pool, ledger, metrics, now, bodyMaxBytes, onError } = dependencies
  const deadLetters = new DeadLetters({ pool, metrics, now, onError })
  const shared = {
    ledger,
    metrics,
    now,
    newEventId: randomUUID,
    deadLetters,
    limits: { bodyMaxBytes, decompressedMaxBytes: 2 * bodyMaxBytes },
  }
  app.register(async (scope: App) => {
    // Both doors read the raw stream: they decompress, limit and decode it themselves.
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', (_request, _payload, done) => done(null))
    registerTraceRoutes(scope, shared)
    registerUsageRoutes(scope, shared)
  })
  registerDeadLetterRoutes(app, { pool, ledger, now })
}

const TRIM = 'trim-dead-letters'
const TRIM_EVERY_MS = 24 * 3_600_000

/** Names the job that keeps the dead letters bounded. */
export function defineDeadLetterJob(jobs: Jobs, { pool, now }: { pool: Pool; now: () => Date }): void {
  jobs.define(TRIM, () => trimDeadLetters(pool, now), { everyMs: TRIM_EVERY_MS })
}

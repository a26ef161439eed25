import { randomUUID } from 'node:crypto'
import type { Pool } from 'pg'
import type { App } from '../http/app.ts'
import { Problem } from '../http/problem.ts'
import type { Ledger } from '../ledger/index.ts'
import type { Jobs } from '../queue/jobs.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { registerDeadLetterRoutes } from './dead-letter-routes.ts'
import { DeadLetters, trimDeadLetters } from './dead-letters.ts'
import { type Sender, submit } from './submit.ts'
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

/**
 * Ingests one event at once, as the routes do.
 *
 * @throws Problem `invalid-request` or `conflict` naming its fields when it is refused
 */
export async function submitOne(
  dependencies: Pick<IngestDependencies, 'ledger' | 'metrics' | 'now'>,
  sender: Sender,
  event: unknown,
): Promise<void> {
  const { rejected } = await submit({ ...dependencies, newEventId: randomUUID }, sender, [event])
  const [refusal] = rejected
  if (refusal === undefined) return
  throw new Problem({
    code: refusal.isConflict ? 'conflict' : 'invalid-request',
    errors: refusal.errors.map(({ path, message }) => ({ path: `event.${path}`, message })),
  })
}

const TRIM = 'trim-dead-letters'
const TRIM_EVERY_MS = 24 * 3_600_000

/** Names the job that keeps the dead letters bounded. */
export function defineDeadLetterJob(jobs: Jobs, { pool, now }: { pool: Pool; now: () => Date }): void {
  jobs.define(TRIM, () => trimDeadLetters(pool, now), { everyMs: TRIM_EVERY_MS, isChore: true })
}

import { createAnnouncer } from '../../queue/announcer.ts'
import type { Jobs } from '../../queue/jobs.ts'
import type { Metrics } from '../../telemetry/metrics.ts'
import { type HandOverDependencies, handOver } from './hand-over.ts'
import { outboxStanding } from './outbox-reads.ts'
import { type PerformDependencies, performSteps } from './perform-steps.ts'

const HAND_OVER = 'hand-over-invoices'
/** Looked for this often even if nobody announced a finalized invoice. */
const HAND_OVER_EVERY_MS = 15_000
const PERFORM = 'perform-outbox-steps'
/** Retries that are due are found by it, and steps whose worker died. */
const PERFORM_EVERY_MS = 5_000
const ANNOUNCE_EVERY_MS = 250

export type OutboxJobDependencies = HandOverDependencies & PerformDependencies

/** Names the jobs of the outbox. They may run anywhere, twice or late. */
export function defineOutboxJobs(
  jobs: Pick<Jobs, 'define' | 'add'>,
  dependencies: OutboxJobDependencies,
): void {
  const performSoon = () => jobs.add(PERFORM, {}, { dedupeId: PERFORM })
  jobs.define(
    HAND_OVER,
    async () => {
      if ((await handOver(dependencies)) > 0) await performSoon()
    },
    { everyMs: HAND_OVER_EVERY_MS, attempts: 1, isChore: true },
  )
  jobs.define(
    PERFORM,
    async () => {
      if (await performSteps(dependencies)) await performSoon()
    },
    { everyMs: PERFORM_EVERY_MS, attempts: 1 },
  )
}

/** Makes what is called when an invoice was finalized or voided, or a credit note issued. */
export function createHandOverAnnouncer(
  jobs: Pick<Jobs, 'add'>,
  onError: (error: unknown) => void,
): () => void {
  return createAnnouncer(jobs, HAND_OVER, { everyMs: ANNOUNCE_EVERY_MS, onError })
}

/** Makes what is called when steps wait to be done. */
export function createOutboxAnnouncer(
  jobs: Pick<Jobs, 'add'>,
  onError: (error: unknown) => void,
): () => void {
  return createAnnouncer(jobs, PERFORM, { everyMs: ANNOUNCE_EVERY_MS, onError })
}

/** Brings the gauges of the outbox up to date. */
export async function refreshOutboxMetrics(
  { pool, systems, now }: Pick<OutboxJobDependencies, 'pool' | 'systems' | 'now'>,
  metrics: Pick<Metrics, 'outboxWaiting' | 'outboxRefused' | 'outboxOldestSeconds'>,
): Promise<void> {
  const standing = new Map((await outboxStanding(pool)).map((one) => [one.system, one]))
  for (const { name } of systems) {
    const { waiting = 0, refused = 0, oldestWaitingAt = null } = standing.get(name) ?? {}
    metrics.outboxWaiting.set({ system: name }, waiting)
    metrics.outboxRefused.set({ system: name }, refused)
    metrics.outboxOldestSeconds.set(
      { system: name },
      oldestWaitingAt === null ? 0 : Math.max(0, now().getTime() - oldestWaitingAt.getTime()) / 1000,
    )
  }
}

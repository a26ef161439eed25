import { setTimeout as delay } from 'node:timers/promises'
import { createAnnouncer } from '../queue/announcer.ts'
import type { Jobs } from '../queue/jobs.ts'
import { type DeliverDependencies, deliver } from './deliver.ts'
import { type DeliveryId, listDue, trimDeliveries } from './delivery-store.ts'
import { type BudgetStatuses, evaluateAlerts } from './evaluate-budgets.ts'
import type { FireDependencies } from './fire.ts'
import { watchFindings } from './watch-findings.ts'
import { Baselines, watchSpending } from './watch-spending.ts'

const EVALUATE = 'evaluate-alerts'
/** Evaluated this often even if no process announced anything: an announcement may die with its process. */
const EVALUATE_EVERY_MS = 15_000
/** Periods that ended this long ago are judged once more, this often: what came in their last moments counts. */
const LOOK_BACK_MS = 5 * 60_000
const LOOK_BACK_EVERY_MS = 60_000
/** What takes longer than this rests afterwards, for a multiple of what it took. */
const LONG_MS = 500
const REST_FACTOR = 4
/** A stop of the process waits for it. */
const REST_MAX_MS = 5_000
/** Appends announce themselves this often at most. */
const ANNOUNCE_EVERY_MS = 250

const DELIVER = 'deliver-notifications'
/** What is due and was not announced, or whose worker died, is looked for this often. */
const DELIVER_EVERY_MS = 10_000
const DUE_MAX = 200
/** Deliveries that one process sends at once; slow receivers must not hold up the others. */
const SENDING_MAX = 16
/** Sooner retries are announced; later ones are found by the schedule. */
const ANNOUNCED_WAIT_MAX_MS = 60_000

const WATCH = 'watch-usage'
const WATCH_EVERY_MS = 5 * 60_000
const TRIM = 'trim-deliveries'
const TRIM_EVERY_MS = 24 * 3_600_000
const KEEP_DELIVERIES_MS = 90 * 24 * 3_600_000

export interface AlertJobDependencies extends DeliverDependencies {
  readonly publicUrl: string | undefined
  readonly budgetStatuses: BudgetStatuses
  readonly metrics: DeliverDependencies['metrics'] & FireDependencies['metrics']
}

/** Names the jobs of alerts. They may run anywhere, twice or late. */
export function defineAlertJobs(
  jobs: Pick<Jobs, 'define' | 'add'>,
  dependencies: AlertJobDependencies,
): void {
  const { pool, now, publicUrl, metrics, logger } = dependencies
  const announce = (delivery: DeliveryId, delayMs?: number) => {
    announceDelivery(jobs, delivery, delayMs).catch((error: unknown) =>
      logger.warn({ err: error }, 'a delivery was not announced'),
    )
  }
  const firing: FireDependencies = { pool, now, publicUrl, metrics, announce }

  let lookedBackMs = Number.NEGATIVE_INFINITY
  const evaluate = rested(async () => {
    const isDue = performance.now() - lookedBackMs >= LOOK_BACK_EVERY_MS
    const evaluation = { ...firing, budgetStatuses: dependencies.budgetStatuses }
    await evaluateAlerts(evaluation, isDue ? LOOK_BACK_MS : 0)
    if (isDue) lookedBackMs = performance.now()
  })
  jobs.define(EVALUATE, evaluate, { everyMs: EVALUATE_EVERY_MS, attempts: 3 })

  const attempt = async (which: DeliveryId) => {
    const nextAt = await deliver(dependencies, which)
    const waitMs = nextAt === undefined ? undefined : nextAt.getTime() - now().getTime()
    if (waitMs !== undefined && waitMs <= ANNOUNCED_WAIT_MAX_MS) announce(which, Math.max(0, waitMs))
  }
  jobs.define(
    DELIVER,
    async ({ organizationId, deliveryId }) => {
      if (typeof organizationId === 'string' && typeof deliveryId === 'string') {
        await attempt({ organizationId, deliveryId })
      } else {
        // Sent here, not announced: the announcement of a worker that died still counts as running for a while.
        await eachOf(await listDue(pool, now(), DUE_MAX), SENDING_MAX, attempt)
      }
    },
    { everyMs: DELIVER_EVERY_MS, attempts: 1, concurrency: SENDING_MAX },
  )

  const baselines = new Baselines()
  jobs.define(
    WATCH,
    async () => {
      const { rows } = await pool.query<{ id: string }>('select id from organization order by id')
      for (const { id } of rows) {
        await watchFindings(firing, id)
        await watchSpending({ ...firing, baselines }, id)
      }
    },
    { everyMs: WATCH_EVERY_MS, isChore: true },
  )

  jobs.define(TRIM, () => trimDeliveries(pool, new Date(now().getTime() - KEEP_DELIVERIES_MS)), {
    everyMs: TRIM_EVERY_MS,
    isChore: true,
  })
}

/**
 * Work that rests after a long run for a few times as long as that took: under steady appends the sums of many
 * budgets must not be all that the database does.
 */
function rested(work: () => Promise<void>): () => Promise<void> {
  let restUntilMs = 0
  return async () => {
    await delay(Math.max(0, restUntilMs - performance.now()))
    const beganMs = performance.now()
    try {
      await work()
    } finally {
      const endedMs = performance.now()
      const tookMs = endedMs - beganMs
      restUntilMs = tookMs < LONG_MS ? 0 : endedMs + Math.min(REST_MAX_MS, REST_FACTOR * tookMs)
    }
  }
}

/** Works through items, `atOnce` at a time. A failure is thrown when all are done. */
async function eachOf<Item>(
  items: readonly Item[],
  atOnce: number,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const remaining = items.values()
  const workers = Array.from({ length: Math.min(atOnce, items.length) }, async () => {
    for (const item of remaining) await work(item)
  })
  const failed = (await Promise.allSettled(workers)).find((result) => result.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}

function announceDelivery(
  jobs: Pick<Jobs, 'add'>,
  { organizationId, deliveryId }: DeliveryId,
  delayMs?: number,
): Promise<void> {
  return jobs.add(DELIVER, { organizationId, deliveryId }, delayMs === undefined ? {} : { delayMs })
}

/**
 * Makes what the ledger calls after a commit: asks for an evaluation soon, once for all commits of the last
 * quarter of a second. Failures are reported and forgotten, because the schedule comes by anyway.
 */
export function createEvaluationAnnouncer(
  jobs: Pick<Jobs, 'add'>,
  onError: (error: unknown) => void,
): () => void {
  return createAnnouncer(jobs, EVALUATE, { everyMs: ANNOUNCE_EVERY_MS, onError })
}

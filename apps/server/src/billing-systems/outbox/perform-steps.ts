import { setTimeout as delay } from 'node:timers/promises'
import type { Pool } from 'pg'
import { inTransaction } from '../../database/transaction.ts'
import { SealBroken } from '../../sealed-secret.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { Metrics } from '../../telemetry/metrics.ts'
import type { BillingSystem, StepOutcome } from '../billing-system.ts'
import { findSettings, openSystemSecrets } from '../settings-store.ts'
import { nextTryMs } from './back-off.ts'
import {
  type ClaimedStep,
  claimStep,
  earlierResults,
  type StepSettlement,
  settleStep,
} from './outbox-store.ts'

/** What a system may take for one step; then the attempt counts as failed, and nobody waits for it any more. */
export const PERFORM_MAX_MS = 60_000
/** Longer than a worker that lives can need: a lease never ends while its call is still waited for. */
const LEASE_MS = 3 * PERFORM_MAX_MS
/** Steps of one system that one process does at once; a slow system must not hold up the others. */
const AT_ONCE = 4
/** Of one system in one run: a stop of the process waits for the run. */
const RUN_MAX = 200
const ERROR_CHARS_MAX = 1_000

export interface PerformDependencies {
  readonly pool: Pool
  readonly systems: readonly BillingSystem[]
  /** Opens the systems' secrets. */
  readonly secretKey: Buffer
  readonly now: () => Date
  /** From 0 (included) to 1 (excluded). */
  readonly random: () => number
  readonly logger: Pick<Logger, 'warn' | 'error'>
  readonly metrics: Pick<Metrics, 'outboxAttempts'>
  readonly leaseMs?: number
}

/** Does the steps that are due. @returns whether more may be due: the run ended because it was long enough */
export async function performSteps(dependencies: PerformDependencies): Promise<boolean> {
  const more = await Promise.all(
    dependencies.systems.map(async (system) => {
      let left = RUN_MAX
      const work = async (): Promise<void> => {
        while (left > 0) {
          left -= 1
          if (!(await performNext(dependencies, system))) return
        }
      }
      await Promise.all(Array.from({ length: AT_ONCE }, work))
      return left === 0
    }),
  )
  return more.includes(true)
}

/** Does the step of a system that is due longest. @returns whether there was one */
export async function performNext(
  dependencies: PerformDependencies,
  system: BillingSystem,
): Promise<boolean> {
  const { pool, now, random, metrics, logger, leaseMs = LEASE_MS } = dependencies
  const step = await claimStep(pool, system.name, now(), leaseMs)
  if (step === undefined) return false
  const outcome = await outcomeOf(dependencies, system, step)
  const settlement = settlementOf(outcome, {
    attempts: step.attempts,
    nowMs: now().getTime(),
    random: random(),
  })
  await inTransaction(pool, (client) => settleStep(client, step, settlement, now()))
  metrics.outboxAttempts.inc({ system: system.name, outcome: outcome.kind })
  if (outcome.kind === 'refused') {
    const { organizationId, stream, action } = step
    logger.warn({ organizationId, system: system.name, stream, action }, 'another system refuses a step')
  }
  return true
}

async function outcomeOf(
  { pool, secretKey, now, logger }: PerformDependencies,
  system: BillingSystem,
  step: ClaimedStep,
): Promise<StepOutcome> {
  const settings = await findSettings(pool, step.organizationId, system.name)
  if (settings === undefined) {
    return { kind: 'retry', reason: `${system.name} is not set up any more.` }
  }
  if (!settings.isEnabled) return { kind: 'retry', reason: `${system.name} is disabled.` }
  const ended = new AbortController()
  try {
    const call = system.perform(
      { action: step.action, payload: step.payload },
      {
        organizationId: step.organizationId,
        settings: settings.settings,
        secrets: openSystemSecrets(secretKey, settings),
        idempotencyKey:
          step.keyGeneration === 0 ? step.idempotencyKey : `${step.idempotencyKey}/${step.keyGeneration}`,
        keyGeneration: step.keyGeneration,
        keySince: step.keySince,
        at: now(),
        attempt: step.attempts,
        earlier: await earlierResults(pool, step),
      },
    )
    const tooLong = delay(PERFORM_MAX_MS, undefined, { signal: ended.signal }).then(
      (): StepOutcome => ({ kind: 'retry', reason: `${system.name} did not answer in time.` }),
    )
    // Aborted when the call is back: nobody listens then.
    tooLong.catch(() => undefined)
    return await Promise.race([call, tooLong])
  } catch (error) {
    logger.error({ err: error, stream: step.stream, action: step.action }, 'a step of the outbox failed')
    // Of what is not known no text may leave: it could hold secrets.
    return {
      kind: 'retry',
      reason: error instanceof SealBroken ? error.message : 'Something went wrong here; the log has it.',
    }
  } finally {
    ended.abort()
  }
}

function settlementOf(
  outcome: StepOutcome,
  failed: { readonly attempts: number; readonly nowMs: number; readonly random: number },
): StepSettlement {
  if (outcome.kind === 'done') return { status: 'done', result: outcome.result }
  const error = outcome.reason.slice(0, ERROR_CHARS_MAX)
  if (outcome.kind === 'refused') return { status: 'refused', error }
  const { retryAfterMs, isKeySettled = false } = outcome
  return {
    status: 'waiting',
    nextAttemptAt: new Date(nextTryMs({ ...failed, retryAfterMs })),
    error,
    isKeySettled,
  }
}

import { nextAttemptMs } from '@tokentally/core'
import type { Pool } from 'pg'
import type { Logger } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { findChannel } from './channel-store.ts'
import {
  type AttemptResult,
  claimDelivery,
  type Delivery,
  type DeliveryId,
  settleDelivery,
} from './delivery-store.ts'
import { SEND_TIMEOUT_MS, type SendDependencies, type SendOutcome, sendDelivery } from './send.ts'

/**
 * A delivery: pending → delivered | failed. A worker claims it for `LEASE_MS`, sends, and writes how it went. One
 * that dies in between leaves the lease; when that ends, the delivery is sent again. So every receiver gets it at
 * least once, and twice only when a worker died between the receiver's answer and the note of it. Webhooks can
 * tell such a repeat by its `webhook-id`, mail systems by its `Message-ID`; Slack and Teams have nothing alike.
 */

/** Three times the longest that sending takes: a claim never ends while its worker lives and sends. */
const LEASE_MS = 3 * SEND_TIMEOUT_MS

export interface DeliverDependencies extends SendDependencies {
  readonly pool: Pool
  readonly now: () => Date
  /** From 0 (included) to 1 (excluded). */
  readonly random: () => number
  readonly logger: Pick<Logger, 'warn'>
  readonly metrics: Pick<Metrics, 'notificationAttempts'>
}

/**
 * Makes the next attempt of a delivery, if it is due and nobody else does.
 *
 * @returns when to try again; undefined when it is done, given up, or not ours
 */
export async function deliver(
  dependencies: DeliverDependencies,
  which: DeliveryId,
): Promise<Date | undefined> {
  const { pool, now } = dependencies
  const delivery = await claimDelivery(pool, which, now(), LEASE_MS)
  if (delivery === undefined) return undefined
  const channel = await findChannel(pool, delivery.organizationId, delivery.channelId)
  const outcome: SendOutcome =
    channel?.enabled === true
      ? await sendDelivery(dependencies, channel, delivery, now())
      : {
          ok: false,
          statusCode: null,
          error: 'The channel is disabled.',
          isFinal: true,
          retryAfterMs: undefined,
        }
  const result = resultOf(dependencies, delivery, outcome)
  await settleDelivery(pool, delivery, result)
  dependencies.metrics.notificationAttempts.inc({
    channel: channel?.kind ?? 'deleted',
    outcome: result.state === 'pending' ? 'retried' : result.state,
  })
  if (result.state === 'failed') {
    dependencies.logger.warn(
      { channelId: delivery.channelId, deliveryId: delivery.id, attempts: delivery.attempts },
      'a notification could not be delivered and is given up',
    )
  }
  return result.nextAttemptAt ?? undefined
}

function resultOf(
  { now, random }: DeliverDependencies,
  { attempts, createdAt }: Delivery,
  outcome: SendOutcome,
): AttemptResult {
  const { statusCode } = outcome
  if (outcome.ok) return { state: 'delivered', nextAttemptAt: null, statusCode, error: null }
  const nextMs = outcome.isFinal
    ? undefined
    : nextAttemptMs({
        attempts,
        createdMs: createdAt.getTime(),
        nowMs: now().getTime(),
        retryAfterMs: outcome.retryAfterMs,
        random: random(),
      })
  return nextMs === undefined
    ? { state: 'failed', nextAttemptAt: null, statusCode, error: outcome.error }
    : { state: 'pending', nextAttemptAt: new Date(nextMs), statusCode, error: outcome.error }
}

import { createHash } from 'node:crypto'
import { decimal } from '@tokentally/core'
import Stripe from 'stripe'
import { z } from 'zod'
import type { PlannedStep, StepContext, StepOutcome } from '../billing-system.ts'
import type { JsonObject } from '../json.ts'
import type { MeterSetting } from './settings.ts'

/** Meters at Stripe and what they are told (docs.stripe.com/billing/subscriptions/usage-based/recording-usage-api). */

export const ENSURE_METER = 'ensure_meter'
export const METER_EVENT = 'meter_event'

const DAY_MS = 86_400_000
const MINUTE_MS = 60_000
/** Stripe takes what is at most 35 days old. */
const ACCEPTED_MS = 35 * DAY_MS
/** What waits a little stays as it was planned. */
const MARGIN_MS = 3_600_000
const LAST_MOMENT_MS = 10 * MINUTE_MS
const PAGE = 100
const CUSTOMER_KEY = 'stripe_customer_id'
const VALUE_KEY = 'value'

const meterSchema = z.object({ event_name: z.string(), display_name: z.string() })
const eventSchema = z.object({
  event_name: z.string(),
  identifier: z.string(),
  stripe_customer_id: z.string(),
  /** Whole, as text. */
  value: z.string(),
  /** Seconds, a whole minute. */
  timestamp: z.number(),
})

/** One event for a meter, as it is planned. */
export interface MeterEventPlan {
  readonly organizationId: string
  readonly customer: string
  readonly stripeCustomerId: string
  readonly eventName: string
  /** The ledger's position up to which it counts. */
  readonly position: number
  readonly atMs: number
  /** Whole, decimal text. */
  readonly value: string
  /** The earliest day of the usage that it counts. */
  readonly usageFrom: string
}

/** The oldest time that Stripe takes by then, a whole minute; UTC milliseconds. */
export function oldestAcceptedMs(nowMs: number): number {
  return Math.ceil((nowMs - ACCEPTED_MS + MARGIN_MS) / MINUTE_MS) * MINUTE_MS
}

/** The step that makes a meter, where it is not there. */
export function ensureMeterStep({ event_name, display_name }: MeterSetting): PlannedStep {
  return { action: ENSURE_METER, payload: { event_name, display_name: display_name ?? event_name } }
}

/** The step that sends an event. The same customer, meter, time and position give the same identifier. */
export function meterEventStep(event: MeterEventPlan): PlannedStep {
  const { organizationId, customer, eventName, position, atMs } = event
  const source = JSON.stringify([organizationId, customer, eventName, position, atMs])
  return {
    action: `${METER_EVENT}:${eventName}:${new Date(atMs).toISOString().slice(0, 10)}`,
    payload: {
      event_name: eventName,
      identifier: `tokentally_${createHash('sha256').update(source).digest('hex')}`,
      stripe_customer_id: event.stripeCustomerId,
      value: event.value,
      timestamp: atMs / 1000,
      usage_from: event.usageFrom,
    },
  }
}

/** Makes a meter, or finds one that counts alike. */
export async function ensureMeter(
  stripe: Stripe,
  payload: JsonObject,
  { idempotencyKey }: StepContext,
): Promise<StepOutcome> {
  const { event_name, display_name } = meterSchema.parse(payload)
  const found = await findMeter(stripe, event_name)
  if (found !== undefined) {
    const sums =
      found.default_aggregation.formula === 'sum' &&
      (found.event_time_window ?? null) === null &&
      found.customer_mapping.event_payload_key === CUSTOMER_KEY &&
      found.value_settings.event_payload_key === VALUE_KEY
    if (sums) return { kind: 'done', result: { meter: found.id } }
    return {
      kind: 'refused',
      reason: `At Stripe the meter ${event_name} (${found.id}) must sum up single events, with the keys ${CUSTOMER_KEY} and ${VALUE_KEY}: take another event name.`,
    }
  }
  const { id } = await stripe.billing.meters.create(
    {
      event_name,
      display_name,
      default_aggregation: { formula: 'sum' },
      customer_mapping: { type: 'by_id', event_payload_key: CUSTOMER_KEY },
      value_settings: { event_payload_key: VALUE_KEY },
    },
    { idempotencyKey },
  )
  return { kind: 'done', result: { meter: id } }
}

/**
 * Sends an event. Within a day Stripe takes an identifier once. After that, nothing but the sum of the event's minute,
 * which is its own, tells whether it came.
 */
export async function sendMeterEvent(
  stripe: Stripe,
  payload: JsonObject,
  { idempotencyKey, at }: StepContext,
  mustLook: boolean,
): Promise<StepOutcome> {
  const { event_name, identifier, stripe_customer_id, value, timestamp } = eventSchema.parse(payload)
  const done: StepOutcome = { kind: 'done', result: { identifier } }
  if (mustLook) {
    const meter = await findMeter(stripe, event_name)
    if (meter === undefined) return { kind: 'refused', reason: `Stripe has no active meter ${event_name}.` }
    const query = { customer: stripe_customer_id, start_time: timestamp, end_time: timestamp + 60 }
    for await (const { aggregated_value } of stripe.billing.meters.listEventSummaries(meter.id, query)) {
      if (decimal(String(aggregated_value)).eq(decimal(value))) return done
    }
  }
  const oldest = (oldestAcceptedMs(at.getTime()) - MARGIN_MS + LAST_MOMENT_MS) / 1000
  try {
    await stripe.billing.meterEvents.create(
      {
        event_name,
        identifier,
        timestamp: Math.max(timestamp, oldest),
        payload: { [CUSTOMER_KEY]: stripe_customer_id, [VALUE_KEY]: value },
      },
      // The outbox's key names the customer and may be longer than Stripe's 255 characters.
      { idempotencyKey: createHash('sha256').update(idempotencyKey).digest('hex') },
    )
  } catch (error) {
    if (!isRepeat(error)) throw error
  }
  return done
}

function isRepeat(error: unknown): boolean {
  return (
    error instanceof Stripe.errors.StripeInvalidRequestError &&
    (error.code === 'duplicate_meter_event' || /already exists with identifier/.test(error.message))
  )
}

async function findMeter(stripe: Stripe, eventName: string): Promise<Stripe.Billing.Meter | undefined> {
  for await (const meter of stripe.billing.meters.list({ status: 'active', limit: PAGE })) {
    if (meter.event_name === eventName) return meter
  }
  return undefined
}

import { z } from 'zod'
import type { App } from '../../http/app.ts'
import { pageOf, parseCursor } from '../../http/page-cursor.ts'
import { problemSchema } from '../../http/problem.ts'
import { type CountingDependencies, type CountingResult, countUsage } from './count-usage.ts'
import { listToldMeters, type ToldMeter } from './meter-store.ts'

export interface MeterRouteDependencies extends CountingDependencies {
  /** Told when steps were planned. */
  readonly onPlanned: () => void
}

const TAGS = ['billing systems']
const NOT_SET_UP: CountingResult = {
  position: null,
  customers: 0,
  events: 0,
  skipped: [
    { customer: null, reason: 'stripe is not set up, is disabled, or has no meters in its settings.' },
  ],
}
const cursorSchema = z.tuple([z.string(), z.string(), z.string()])

const meterJson = z.object({
  customer_id: z.string(),
  event_name: z.string(),
  value: z.string(),
  counted: z.string().describe('All that was counted, exact.'),
  planned: z.string().describe('The sum of all events that were planned: `counted`, rounded down.'),
  waiting_events: z.number().int().describe('Of those, how many wait.'),
  refused_events: z.number().int(),
  metered_until: z.string(),
  position: z.string().describe("The ledger's position up to which it is counted."),
})

/** Registers what Stripe's meters were told, and the counting on demand. */
export function registerMeterRoutes(app: App, dependencies: MeterRouteDependencies): void {
  const { pool, onPlanned } = dependencies
  app.get(
    '/api/v1/billing-systems/stripe/meters',
    {
      config: { scope: 'read' },
      schema: {
        tags: TAGS,
        summary: "What Stripe's meters were told, by customer and meter",
        querystring: z.strictObject({
          customer: z.string().min(1).max(512).optional(),
          limit: z.coerce.number().int().min(1).max(500).default(50),
          cursor: z.string().max(3_000).optional().describe('`next_cursor` of the page before.'),
        }),
        response: {
          200: z.object({ meters: z.array(meterJson), next_cursor: z.string().nullable() }),
          400: problemSchema,
        },
      },
    },
    async ({ organizationId, query: { customer, limit, cursor } }) => {
      const after = cursor === undefined ? undefined : parseCursor(cursor, cursorSchema)
      const found = await listToldMeters(pool, { organizationId, customer, limit: limit + 1, after })
      const { page, nextCursor } = pageOf(found, limit, ({ customer: whose, eventName, value }) => [
        whose,
        eventName,
        value,
      ])
      return { meters: page.map(toldMeterToJson), next_cursor: nextCursor }
    },
  )

  app.post(
    '/api/v1/billing-systems/stripe/meters/count',
    {
      config: { scope: 'admin' },
      schema: {
        tags: TAGS,
        summary: "Count usage for Stripe's meters now",
        description: 'The service does so every hour. What was counted is not counted again.',
        response: {
          200: z.object({
            position: z.string().nullable().describe('That was taken; null: none.'),
            customers: z.number().int().describe('Who were counted.'),
            events: z.number().int().describe('That were planned.'),
            skipped: z.array(
              z.object({
                customer_id: z.string().nullable().describe('Null: nobody was counted.'),
                reason: z.string(),
              }),
            ),
          }),
        },
      },
    },
    async ({ organizationId }) => {
      const { position, customers, events, skipped } =
        (await countUsage(dependencies, organizationId)) ?? NOT_SET_UP
      onPlanned()
      return {
        position: position === null ? null : String(position),
        customers,
        events,
        skipped: skipped.map(({ customer, reason }) => ({ customer_id: customer, reason })),
      }
    },
  )
}

function toldMeterToJson(meter: ToldMeter): z.infer<typeof meterJson> {
  return {
    customer_id: meter.customer,
    event_name: meter.eventName,
    value: meter.value,
    counted: meter.counted,
    planned: meter.planned,
    waiting_events: meter.waitingEvents,
    refused_events: meter.refusedEvents,
    metered_until: meter.meteredUntil.toISOString(),
    position: meter.position,
  }
}

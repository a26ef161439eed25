import { Readable } from 'node:stream'
import { decimalText, ZERO } from '@tokentally/core'
import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import { Problem, problemSchema } from '../http/problem.ts'
import { line, NDJSON, triedRules, triedRulesFields } from '../simulation/index.ts'
import type { Logger } from '../telemetry/log.ts'
import {
  type InvoiceSimulationRequest,
  type InvoiceSums,
  type SimulatedInvoice,
  simulateInvoices,
} from './simulate-invoices.ts'

export interface InvoiceSimulationRouteDependencies {
  readonly pool: Pool
  readonly now: () => Date
  readonly logger: Logger
}

const body = z.strictObject({
  ...triedRulesFields,
  customers: z
    .array(z.string().min(1).max(512))
    .min(1)
    .max(1000)
    .optional()
    .describe('Only these; all that have invoices when absent.'),
  invoices: z.number().int().min(1).max(12).default(3).describe('How many of each customer, the last ones.'),
})

/** Registers `POST /api/v1/invoices/simulate`. */
export function registerInvoiceSimulationRoutes(
  app: App,
  { pool, now, logger }: InvoiceSimulationRouteDependencies,
): void {
  app.post(
    '/api/v1/invoices/simulate',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['invoices'],
        summary: "What customers' last invoices would have been under other markup rules",
        description:
          'Changes nothing. The rules count as if they had always been in force; without any, the present ones. Void, blocked and pending invoices are left out. The answer is NDJSON: lines `{"progress": 0.5, "events": 1000}`, and at last `{"result": {…}}`, or `{"error": {…}}` with problem details.',
        body,
        produces: [NDJSON],
        response: {
          200: z.unknown().describe('Lines of JSON.'),
          400: problemSchema,
          409: problemSchema,
        },
      },
    },
    async ({ organizationId, body }, reply) => {
      const rules = await triedRules({ pool, organizationId, nowMs: now().getTime() }, body)
      const request = { organizationId, rules, customers: body.customers, count: body.invoices }
      return reply
        .header('content-type', NDJSON)
        .send(Readable.from(simulationLines(pool, request, logger), { objectMode: false }))
    },
  )
}

async function* simulationLines(
  pool: Pool,
  request: InvoiceSimulationRequest,
  logger: Logger,
): AsyncGenerator<string> {
  try {
    for await (const step of simulateInvoices(pool, request)) {
      if (step.kind === 'progress') {
        yield line({ progress: Math.round(step.fraction * 1000) / 1000, events: step.events })
        continue
      }
      yield line({ result: resultOf(step.invoices) })
    }
  } catch (error) {
    // The status is sent by now: the last line says that there is no result.
    logger.error({ err: error }, 'a simulation of invoices failed')
    yield line({ error: new Problem({ code: 'internal-error' }).toBody() })
  }
}

function resultOf(invoices: readonly SimulatedInvoice[]) {
  return {
    invoices: invoices.map(({ invoice, reason, ...sums }) => ({
      invoice_id: invoice.id,
      number: invoice.number,
      customer_id: invoice.customer,
      period: {
        start: new Date(invoice.selection.startMs).toISOString(),
        end: new Date(invoice.selection.endMs).toISOString(),
      },
      currency: invoice.currency,
      reason,
      ...(reason === null ? sumsToJson(sums) : NO_SUMS),
    })),
    customers: summed(invoices, ({ invoice }) => ({
      customer_id: invoice.customer,
      currency: invoice.currency,
    })),
    totals: summed(invoices, ({ invoice }) => ({ currency: invoice.currency })),
  }
}

/** Sums of invoices that are alike in their keys, in the order of the invoices. Those without an answer do not count. */
function summed<Keys extends object>(
  invoices: readonly SimulatedInvoice[],
  keysOf: (one: SimulatedInvoice) => Keys,
) {
  const groups = new Map<string, { keys: Keys; count: number; sums: InvoiceSums }>()
  for (const one of invoices) {
    if (one.reason !== null) continue
    const keys = keysOf(one)
    const key = JSON.stringify(keys)
    const known = groups.get(key) ?? { keys, count: 0, sums: NOTHING }
    groups.set(key, { keys, count: known.count + 1, sums: plus(known.sums, one) })
  }
  return [...groups.values()].map(({ keys, count, sums }) => ({
    ...keys,
    invoices: count,
    ...sumsToJson(sums),
  }))
}

const NOTHING: InvoiceSums = { listCost: ZERO, revenueBefore: ZERO, revenueAfter: ZERO }

function plus(a: InvoiceSums, b: InvoiceSums): InvoiceSums {
  return {
    listCost: a.listCost.plus(b.listCost),
    revenueBefore: a.revenueBefore.plus(b.revenueBefore),
    revenueAfter: a.revenueAfter.plus(b.revenueAfter),
  }
}

const NO_SUMS = {
  list_cost: null,
  revenue_before: null,
  revenue_after: null,
  difference: null,
  margin_before: null,
  margin_after: null,
}

function sumsToJson({ listCost, revenueBefore, revenueAfter }: InvoiceSums) {
  return {
    list_cost: decimalText(listCost),
    revenue_before: decimalText(revenueBefore),
    revenue_after: decimalText(revenueAfter),
    difference: decimalText(revenueAfter.minus(revenueBefore)),
    margin_before: decimalText(revenueBefore.minus(listCost)),
    margin_after: decimalText(revenueAfter.minus(listCost)),
  }
}

import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import { problemSchema } from '../http/problem.ts'
import { rangeParameters, readPeriod } from '../reports/index.ts'
import { gpuReport } from './report.ts'

export interface GpuRouteDependencies {
  readonly pool: Pool
  readonly now: () => Date
}

const count = z.number().int()
const seconds = z.number().min(0)
const money = z.string().nullable()
const sums = {
  gpu_seconds: seconds.describe('Busy for calls that are in the ledger. To the microsecond, over all GPUs.'),
  gpu_unattributed_seconds: seconds.describe('Busy without a call in the ledger.'),
  gpu_idle_seconds: seconds,
  gpu_unknown_seconds: seconds.describe('Not measured: neither busy nor idle, and in no cost.'),
  utilization: z.number().nullable().describe('Busy part of the measured time, 0 to 1; null: none measured.'),
  input_tokens: count.describe('Of the calls of the model that began in the range.'),
  output_tokens: count,
  total_tokens: count.describe('Input and output'),
  served_input_tokens: count
    .nullable()
    .describe(
      'As vLLM counted them, whoever called; null: no vLLM metrics. More than input_tokens: calls are not metered.',
    ),
  served_output_tokens: count.nullable(),
  unpriced_events: count.describe(
    'Events of GPU time without a price; while there are any, their costs are null.',
  ),
  gpu_cost: money.describe('List cost of gpu_seconds. Exact decimal, US dollars; null: not known yet.'),
  gpu_unattributed_cost: money,
  gpu_idle_cost: money,
  total_cost: money.describe('All of the measured time.'),
  cost_per_million_tokens: money.describe('gpu_cost for a million tokens; null: no tokens, or not priced.'),
  total_cost_per_million_tokens: money.describe('total_cost for a million tokens: idle GPUs included.'),
}

/** What the GPUs of self-hosted models cost. */
export function registerGpuRoutes(app: App, { pool, now }: GpuRouteDependencies): void {
  app.route({
    method: 'GET',
    url: '/api/v1/gpu',
    config: { scope: 'read' },
    schema: {
      tags: ['reports'],
      summary: 'GPU time of self-hosted models, and the cost of a million tokens',
      description:
        'From the metrics of the targets in TOKENTALLY_GPU_TARGETS. Complete up to about six minutes ago: a minute is closed five minutes after its end.',
      querystring: z.strictObject({
        ...rangeParameters,
        granularity: z.enum(['minute', 'hour', 'day', 'week', 'month', 'none']).optional(),
      }),
      response: {
        200: z.object({
          period: z.object({ start: z.string(), end: z.string() }),
          currency: z.literal('USD'),
          models: z.array(
            z.object({
              provider: z.string(),
              model: z.string(),
              bucket: z.string().optional().describe('With a granularity: when the bucket begins.'),
              ...sums,
            }),
          ),
          totals: z.object(sums),
        }),
        400: problemSchema,
      },
    },
    handler: async ({ organizationId, query }) => {
      const period = readPeriod(query, now().getTime())
      const { granularity } = query
      const { models, totals } = await gpuReport(pool, {
        organizationId,
        ...period,
        granularity: granularity === 'none' ? undefined : granularity,
      })
      return {
        period: { start: new Date(period.startMs).toISOString(), end: new Date(period.endMs).toISOString() },
        currency: 'USD' as const,
        models: [...models],
        totals,
      }
    },
  })
}

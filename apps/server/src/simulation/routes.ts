import { Readable } from 'node:stream'
import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import { Problem, problemSchema } from '../http/problem.ts'
import { ROLLED_UP_COLUMNS } from '../ledger/index.ts'
import { DIMENSION_COLUMNS, readPeriod } from '../reports/index.ts'
import type { Logger } from '../telemetry/log.ts'
import { type PreviewRequest, preview, previewSumsJson } from './preview.ts'
import { invalid, line, NDJSON, triedRules, triedRulesFields } from './tried-rules.ts'

/** What the routes of simulations need. */
export interface SimulationRoutesDeps {
  readonly pool: Pool
  readonly now: () => Date
  readonly logger: Logger
}

const GROUP_COLUMNS = Object.entries(DIMENSION_COLUMNS).flatMap(([name, column]) => {
  const rolledUp = ROLLED_UP_COLUMNS.find((one) => one === column)
  return rolledUp === undefined ? [] : [[name, rolledUp] as const]
})

const body = z.strictObject({
  ...triedRulesFields,
  start: z
    .string()
    .optional()
    .describe('Included. A date, or an RFC 3339 instant. Default: the last calendar month.'),
  end: z.string().optional().describe('Excluded.'),
  timezone: z.string().optional().describe('IANA name; default UTC. Where dates begin.'),
  group_by: z
    .array(z.string())
    .max(4)
    .default(['customer'])
    .describe(`Any of ${GROUP_COLUMNS.map(([name]) => name).join(', ')}.`),
})

/** Registers `POST /api/v1/markup-rules/preview`. */
export function registerSimulationRoutes(app: App, { pool, now, logger }: SimulationRoutesDeps): void {
  app.post(
    '/api/v1/markup-rules/preview',
    {
      config: { scope: 'read' },
      schema: {
        summary: 'What a period would have cost under other markup rules',
        description:
          'Changes nothing. The rules count as if they had been in force through the whole period; without any, the present ones. The answer is NDJSON: lines `{"progress": 0.5, "events": 1000}`, and at last `{"result": {…}}`, or `{"error": {…}}` with problem details.',
        tags: ['markup rules'],
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
      const nowMs = now().getTime()
      const groupBy = readGroupBy(body.group_by)
      const { startMs, endMs } = readPreviewPeriod(body, nowMs)
      const rules = await triedRules({ pool, organizationId, nowMs }, body)
      const request = { organizationId, startMs, endMs, rules, groupBy: groupBy.map(({ column }) => column) }
      const names = groupBy.map(({ name }) => name)
      return reply
        .header('content-type', NDJSON)
        .send(Readable.from(previewLines(pool, request, names, logger), { objectMode: false }))
    },
  )
}

async function* previewLines(
  pool: Pool,
  request: PreviewRequest,
  names: readonly string[],
  logger: Logger,
): AsyncGenerator<string> {
  try {
    for await (const step of preview(pool, request)) {
      if (step.kind === 'progress') {
        yield line({ progress: Math.round(step.fraction * 1000) / 1000, events: step.events })
        continue
      }
      const { groups, totals, rules } = step.result
      yield line({
        result: {
          period: {
            start: new Date(request.startMs).toISOString(),
            end: new Date(request.endMs).toISOString(),
          },
          currency: 'USD',
          groups: groups.map(({ keys, sums }) => ({
            ...Object.fromEntries(names.map((name, index) => [name, keys[index] ?? null])),
            ...previewSumsJson(sums),
          })),
          totals: previewSumsJson(totals),
          rules: rules.map(({ id, sums }) => ({ id, ...previewSumsJson(sums) })),
        },
      })
    }
  } catch (error) {
    // The status is sent by now: the last line says that there is no result.
    logger.error({ err: error }, 'a preview failed')
    yield line({ error: new Problem({ code: 'internal-error' }).toBody() })
  }
}

function readPreviewPeriod(query: z.output<typeof body>, nowMs: number) {
  if (query.start !== undefined || query.end !== undefined) return readPeriod(query, nowMs)
  const now = new Date(nowMs)
  const [year, month] = [now.getUTCFullYear(), now.getUTCMonth()]
  return { startMs: Date.UTC(year, month - 1), endMs: Date.UTC(year, month) }
}

function readGroupBy(
  names: readonly string[],
): readonly { name: string; column: (typeof ROLLED_UP_COLUMNS)[number] }[] {
  const known = GROUP_COLUMNS.map(([name]) => name).join(', ')
  return names.map((given, index) => {
    const found = GROUP_COLUMNS.find(([name, column]) => name === given || column === given)
    if (found !== undefined) return { name: found[0], column: found[1] }
    throw invalid([{ path: `group_by.${index}`, message: `"${given}" is no dimension; known: ${known}` }])
  })
}

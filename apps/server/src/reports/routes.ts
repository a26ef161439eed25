import type { Readable } from 'node:stream'
import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import { Problem } from '../http/problem.ts'
import { aggregate } from './aggregate.ts'
import { DIMENSION_COLUMNS, type Dimension, dimensionOf } from './dimensions.ts'
import { encodeCursor, findEvent, listEvents, readCursor } from './events-query.ts'
import { readFilters } from './filters.ts'
import { rangeParameters as range, readPeriod } from './period.ts'
import { usageCsv } from './usage-csv.ts'

export interface ReportDependencies {
  readonly pool: Pool
  readonly now: () => Date
  /** The CSV of an invoice. @throws Problem when there is none */
  readonly invoiceCsv: (organizationId: string, invoiceId: string) => Promise<Readable>
  /** The invoice lines that an event is on. */
  readonly invoiceLinesOf: (organizationId: string, eventId: string) => Promise<readonly object[]>
}

/** An id in a path. */
const id = z.string().refine((value) => !value.includes('\0'), 'must not contain NUL')
const flag = z.enum(['true', 'false']).transform((value) => value === 'true')
const filter = z.union([z.string(), z.array(z.string())]).optional()
const filters = Object.fromEntries(
  Object.entries(DIMENSION_COLUMNS).flatMap(([name, column]) => [
    [name, filter.describe(`Only events of this ${name.replace('_', ' ')}; repeatable.`)],
    [column, filter.describe(`The same as \`${name}\`.`)],
  ]),
)

const count = z.number().int()
const money = z.string().describe('Exact decimal, US dollars')
const sumsSchema = {
  requests: count.describe('Usage events, failed attempts included'),
  errors: count.describe('Events of status `error`, which cost nothing'),
  estimated_requests: count.describe('Events whose tokens a tokenizer counted'),
  unpriced_requests: count.describe(
    'Events with a meter that has no price yet; their cost is not in the sums',
  ),
  input_tokens: count,
  output_tokens: count,
  cache_read_tokens: count,
  cache_write_tokens: count,
  reasoning_tokens: count,
  total_tokens: count.describe('Input and output'),
  list_cost: money,
  total_cost: money.describe('The sell cost. Exact decimal, US dollars'),
  avg_cost_per_request: money,
  margin: money.describe('total_cost less list_cost. Exact decimal, US dollars'),
  margin_percent: z
    .string()
    .nullable()
    .describe(
      'The margin as a share of total_cost, rounded half to even at two digits; null where that is 0',
    ),
}
const periodSchema = z.object({ start: z.string(), end: z.string() })

const FINDING_PARAMETERS = ['mismatch', 'estimated', 'reason']
const USAGE_PARAMETERS = ['start', 'end', 'timezone', 'cursor', 'limit', ...FINDING_PARAMETERS]
const AGGREGATE_PARAMETERS = ['start', 'end', 'timezone', 'group_by', 'granularity', 'currency']
const CSV_PARAMETERS = ['start', 'end', 'timezone']

/** Reports over the ledger. All need the scope `read`. */
export function registerReportRoutes(
  app: App,
  { pool, now, invoiceCsv, invoiceLinesOf }: ReportDependencies,
): void {
  app.route({
    method: 'GET',
    url: '/api/v1/usage',
    config: { scope: 'read' },
    schema: {
      tags: ['reports'],
      summary: 'Usage events, newest first',
      description: 'Filters: any dimension, and `tag.NAME`.',
      querystring: z
        .object({
          ...range,
          ...filters,
          mismatch: flag.optional().describe("Only events whose provider's counts contradict each other."),
          estimated: flag.optional().describe('Only events whose tokens a tokenizer counted.'),
          reason: id
            .optional()
            .describe('Only events that are estimated, aborted or failed for this reason.'),
          cursor: z.string().optional().describe('`next_cursor` of the page before.'),
          limit: z.coerce.number().int().min(1).max(1000).default(100),
        })
        .catchall(filter),
      response: {
        200: z.object({
          events: z.array(z.record(z.string(), z.unknown())),
          next_cursor: z.string().nullable(),
        }),
      },
    },
    handler: async (request) => {
      const { query } = request
      const period = readPeriod(query, now().getTime())
      const after = query.cursor === undefined ? undefined : readCursor(query.cursor)
      const events = await listEvents(pool, {
        organizationId: request.organizationId,
        ...period,
        filters: readFilters(query, USAGE_PARAMETERS),
        findings: { mismatch: query.mismatch, estimated: query.estimated, reason: query.reason },
        limit: query.limit,
        after,
      })
      const last = events.at(-1)
      const position =
        events.length < query.limit || last?.event_id === undefined || last.ts === undefined
          ? null
          : encodeCursor({ tsMs: Date.parse(last.ts), eventId: last.event_id })
      return { events: events.map((event) => ({ ...event })), next_cursor: position }
    },
  })

  app.route({
    method: 'GET',
    url: '/api/v1/usage/:event_id',
    config: { scope: 'read' },
    schema: {
      tags: ['reports'],
      summary: 'One usage event with its rating, and the invoice lines that it is on',
      params: z.object({ event_id: id }),
      response: { 200: z.record(z.string(), z.unknown()) },
    },
    handler: async (request) => {
      const event = await findEvent(pool, request.organizationId, request.params.event_id)
      if (event === undefined)
        throw new Problem({ code: 'not-found', detail: 'There is no event with this id.' })
      const invoiceLines = await invoiceLinesOf(request.organizationId, request.params.event_id)
      return { ...event, invoice_lines: invoiceLines.map((line) => ({ ...line })) }
    },
  })

  app.route({
    method: 'GET',
    url: '/api/v1/costs/aggregate',
    config: { scope: 'read' },
    schema: {
      tags: ['reports'],
      summary: 'Usage and cost by any dimensions and buckets of time',
      description: 'Complete up to the last acknowledged event. Filters: any dimension, and `tag.NAME`.',
      querystring: z
        .object({
          ...range,
          ...filters,
          group_by: z
            .union([z.string(), z.array(z.string())])
            .optional()
            .describe(
              `Comma-separated: ${Object.keys(DIMENSION_COLUMNS).join(', ')}, tag.NAME. None: one group.`,
            ),
          granularity: z.enum(['minute', 'hour', 'day', 'week', 'month', 'none']).optional(),
          currency: z
            .literal(['USD', 'charged'])
            .optional()
            .describe('`charged`: groups by the currency that customers pay in, too, with what they pay.'),
        })
        .catchall(filter),
      response: {
        200: z.object({
          period: periodSchema,
          currency: z.literal('USD'),
          groups: z.array(
            z.looseObject({
              ...sumsSchema,
              charged_currency: z.string().optional(),
              charged_amount: z.string().optional().describe('Exact decimal, in that currency'),
            }),
          ),
          totals: z.object(sumsSchema),
          charged: z
            .array(z.object({ currency: z.string(), amount: z.string() }))
            .optional()
            .describe('With `currency=charged`: what customers pay, by currency'),
        }),
      },
    },
    handler: async (request) => {
      const { query } = request
      const period = readPeriod(query, now().getTime())
      const { granularity } = query
      const result = await aggregate(pool, {
        organizationId: request.organizationId,
        ...period,
        groupBy: readGroupBy(query.group_by),
        granularity: granularity === 'none' ? undefined : granularity,
        filters: readFilters(query, AGGREGATE_PARAMETERS),
        withTotals: true,
        isCharged: query.currency === 'charged',
      })
      return {
        period: { start: new Date(period.startMs).toISOString(), end: new Date(period.endMs).toISOString() },
        currency: 'USD' as const,
        groups: result.groups.map(({ keys, charged, ...sums }) => ({
          ...keys,
          ...sums,
          ...(charged !== undefined && {
            charged_currency: charged.currency,
            charged_amount: charged.amount,
          }),
        })),
        totals: result.totals,
        ...(query.currency === 'charged' && { charged: result.charged.map((one) => ({ ...one })) }),
      }
    },
  })

  app.route({
    method: 'GET',
    url: '/api/v1/usage.csv',
    config: { scope: 'read' },
    schema: {
      tags: ['reports'],
      summary: 'Usage as CSV: a row per customer, feature, provider and model',
      description:
        'With `invoice`, what that invoice is made of, to the cent: cost in its currency, and further columns currency, line_no, kind, exact_cost.',
      querystring: z
        .object({
          ...range,
          ...filters,
          invoice: z.uuid().optional().describe('The id of an invoice; instead of a range and filters.'),
        })
        .catchall(filter),
      produces: ['text/csv'],
      response: { 200: z.unknown().describe('Columns: customer_id, feature, provider, model, tokens, cost') },
    },
    handler: async (request, reply) => {
      const { organizationId, query } = request
      if (query.invoice !== undefined) {
        const others = Object.keys(query).filter((name) => name !== 'invoice')
        if (others.length > 0) {
          throw new Problem({
            code: 'invalid-request',
            errors: others.map((path) => ({ path, message: 'cannot stand beside invoice' })),
          })
        }
        const csv = await invoiceCsv(organizationId, query.invoice)
        return reply
          .header('content-type', 'text/csv; charset=utf-8')
          .header('content-disposition', `attachment; filename="invoice-${query.invoice}.csv"`)
          .send(csv)
      }
      const period = readPeriod(query, now().getTime())
      const csv = await usageCsv(pool, {
        organizationId,
        ...period,
        filters: readFilters(query, CSV_PARAMETERS),
      })
      return reply
        .header('content-type', 'text/csv; charset=utf-8')
        .header('content-disposition', 'attachment; filename="usage.csv"')
        .send(csv)
    },
  })

  registerTenantRoutes(app, { pool, now })
}

/** The routes of older integrations, where a tenant is a customer. */
function registerTenantRoutes(app: App, { pool, now }: Pick<ReportDependencies, 'pool' | 'now'>): void {
  const tenantSums = {
    requests: count,
    prompt_tokens: count,
    completion_tokens: count,
    total_tokens: count,
    cost: money,
    list_cost: money,
    margin: sumsSchema.margin,
    margin_percent: sumsSchema.margin_percent,
    currency: z.literal('USD'),
  }
  const report = async (
    organizationId: string,
    tenantId: string,
    query: { start?: string | undefined; end?: string | undefined; timezone?: string | undefined },
    isDaily: boolean,
  ) => {
    const period = readPeriod(query, now().getTime())
    const customer = dimensionOf('customer')
    const provider = isDaily ? [] : ['provider', 'model'].flatMap((name) => dimensionOf(name) ?? [])
    return aggregate(pool, {
      organizationId,
      ...period,
      groupBy: provider,
      granularity: isDaily ? 'day' : undefined,
      filters: customer === undefined ? [] : [{ dimension: customer, values: [tenantId] }],
      withTotals: true,
    })
  }
  const tenantSumsOf = (sums: {
    requests: number
    input_tokens: number
    output_tokens: number
    total_tokens: number
    total_cost: string
    list_cost: string
    margin: string
    margin_percent: string | null
  }) => ({
    requests: sums.requests,
    prompt_tokens: sums.input_tokens,
    completion_tokens: sums.output_tokens,
    total_tokens: sums.total_tokens,
    cost: sums.total_cost,
    list_cost: sums.list_cost,
    margin: sums.margin,
    margin_percent: sums.margin_percent,
    currency: 'USD' as const,
  })

  app.route({
    method: 'GET',
    url: '/tenant/:tenant_id/summary',
    config: { scope: 'read' },
    schema: {
      tags: ['tenants'],
      summary: 'What one customer used and cost',
      params: z.object({ tenant_id: id }),
      querystring: z.object(range),
      response: {
        200: z.object({
          tenant_id: z.string(),
          ...tenantSums,
          models: z.array(
            z.object({ provider: z.string().nullable(), model: z.string().nullable(), ...tenantSums }),
          ),
        }),
      },
    },
    handler: async (request) => {
      const tenantId = request.params.tenant_id
      const result = await report(request.organizationId, tenantId, request.query, false)
      return {
        tenant_id: tenantId,
        ...tenantSumsOf(result.totals),
        models: result.groups.map((group) => ({
          provider: group.keys['provider'] ?? null,
          model: group.keys['model'] ?? null,
          ...tenantSumsOf(group),
        })),
      }
    },
  })

  app.route({
    method: 'GET',
    url: '/tenant/:tenant_id/daily',
    config: { scope: 'read' },
    schema: {
      tags: ['tenants'],
      summary: 'What one customer used and cost, day by day',
      params: z.object({ tenant_id: id }),
      querystring: z.object(range),
      response: {
        200: z.object({
          tenant_id: z.string(),
          days: z.array(z.object({ date: z.string(), ...tenantSums })),
        }),
      },
    },
    handler: async (request) => {
      const tenantId = request.params.tenant_id
      const result = await report(request.organizationId, tenantId, request.query, true)
      return {
        tenant_id: tenantId,
        days: result.groups.map((group) => ({ date: group.keys['bucket'] ?? '', ...tenantSumsOf(group) })),
      }
    },
  })
}

const GROUPS_MAX = 6

function readGroupBy(value: string | readonly string[] | undefined): readonly Dimension[] {
  const names = (typeof value === 'string' ? [value] : (value ?? []))
    .flatMap((part) => part.split(','))
    .map((name) => name.trim())
    .filter((name) => name !== '')
  const dimensions = [...new Set(names)].map((name) => {
    const dimension = dimensionOf(name)
    if (dimension !== undefined) return dimension
    throw new Problem({
      code: 'invalid-request',
      errors: [
        {
          path: 'group_by',
          message: `"${name}" is no dimension; known: ${Object.keys(DIMENSION_COLUMNS).join(', ')}, tag.NAME`,
        },
      ],
    })
  })
  if (dimensions.length > GROUPS_MAX) {
    throw new Problem({
      code: 'invalid-request',
      errors: [{ path: 'group_by', message: `at most ${GROUPS_MAX} dimensions` }],
    })
  }
  return dimensions
}

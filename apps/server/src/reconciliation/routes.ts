import {
  decimal,
  type FieldIssue,
  isVendor,
  RECONCILIATION_GROUPS,
  type ReconciliationGroup,
  VENDORS,
  type Vendor,
} from '@tokentally/core'
import type { Pool } from 'pg'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import { Problem, problemSchema } from '../http/problem.ts'
import type { RatingBookCache } from '../pricing/index.ts'
import { type ImportRouteDependencies, registerImportRoutes } from './import-routes.ts'
import { dayOf, daysBetween, msOf, reconcileVendor } from './report.ts'
import { csvLines, vendorReportJson, vendorReportToJson } from './report-json.ts'
import { registerVendorRoutes, type VendorRouteDependencies } from './vendor-routes.ts'

export interface ReconciliationRouteDependencies extends ImportRouteDependencies, VendorRouteDependencies {
  readonly pool: Pool
  readonly now: () => Date
  readonly ratingBooks: RatingBookCache
}

const DAY_MS = 24 * 3_600_000
const DEFAULT_DAYS = 30
/** The events of the range are read one by one. */
const DAYS_MAX = 92

/** Registers `/api/v1/reconciliation` and what it is made from. */
export function registerReconciliationRoutes(app: App, dependencies: ReconciliationRouteDependencies): void {
  registerReport(app, dependencies)
  registerImportRoutes(app, dependencies)
  registerVendorRoutes(app, dependencies)
}

const querySchema = z.strictObject({
  vendor: z.enum(VENDORS).optional().describe('All that have told of the range when left out.'),
  start: z.iso.date().optional().describe('UTC day, included. Default: 30 days before `end`.'),
  end: z.iso.date().optional().describe('UTC day, excluded. Default: today.'),
  group_by: z
    .string()
    .default(RECONCILIATION_GROUPS.join(','))
    .describe('Any of `day`, `model`, `meter`, separated by commas; empty gives totals alone.'),
  tolerance: z
    .string()
    .regex(/^(0(\.\d{1,9})?|1(\.0{1,9})?)$/, 'must be a share between 0 and 1, such as 0.001')
    .default('0.001')
    .describe("The share of the vendor's figure up to which a difference counts as none"),
  format: z
    .enum(['json', 'ndjson', 'csv'])
    .default('json')
    .describe('`ndjson` and `csv` have the rows alone.'),
})

function registerReport(app: App, dependencies: ReconciliationRouteDependencies): void {
  const { now } = dependencies
  app.get(
    '/api/v1/reconciliation',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['reconciliation'],
        summary: 'What vendors say beside what was metered, and why they differ',
        description:
          "Compares vendors' figures with the ledger's quantities and list costs by UTC day, model and meter. Each part of a difference has one likely cause; `docs/reference/reconciliation.md` says how they are found.",
        querystring: querySchema,
        response: {
          200: z.union([
            z.object({
              period: z.object({ start: z.string(), end: z.string() }),
              currency: z.literal('USD'),
              group_by: z.array(z.string()),
              tolerance: z.string(),
              vendors: z.array(vendorReportJson),
            }),
            z.string().describe('The rows as text, with `format`'),
          ]),
          400: problemSchema,
        },
      },
    },
    async ({ organizationId, query }, reply) => {
      const period = readDays(query, now().getTime())
      const groupBy = readGroups(query.group_by)
      const asked = daysBetween(period.startDay, period.endDay)
      const reports: z.infer<typeof vendorReportJson>[] = []
      for (const vendor of vendorsOf(query.vendor)) {
        const found = await reconcileVendor(dependencies, {
          organizationId,
          vendor,
          ...period,
          groupBy,
          tolerance: decimal(query.tolerance),
        })
        if (found !== undefined) reports.push(vendorReportToJson(vendor, found, asked))
      }
      const rows = reports.flatMap((report) => report.rows)
      if (query.format === 'csv') {
        return reply.type('text/csv; charset=utf-8').send([...csvLines(rows)].join(''))
      }
      if (query.format === 'ndjson') {
        return reply.type('application/x-ndjson').send(rows.map((row) => `${JSON.stringify(row)}\n`).join(''))
      }
      return {
        period: { start: period.startDay, end: period.endDay },
        currency: 'USD' as const,
        group_by: [...groupBy],
        tolerance: query.tolerance,
        vendors: reports,
      }
    },
  )
}

function vendorsOf(vendor: string | undefined): readonly Vendor[] {
  return vendor !== undefined && isVendor(vendor) ? [vendor] : VENDORS
}

/** @throws Problem naming the field */
function readDays(
  query: { readonly start?: string | undefined; readonly end?: string | undefined },
  nowMs: number,
): { readonly startDay: string; readonly endDay: string } {
  const endDay = query.end ?? dayOf(nowMs)
  const startDay = query.start ?? dayOf(msOf(endDay) - DEFAULT_DAYS * DAY_MS)
  const days = (msOf(endDay) - msOf(startDay)) / DAY_MS
  if (days <= 0) throw invalid({ path: 'end', message: 'must lie after start' })
  if (days > DAYS_MAX) throw invalid({ path: 'start', message: `lies more than ${DAYS_MAX} days before end` })
  return { startDay, endDay }
}

/** @throws Problem naming the field */
function readGroups(text: string): readonly ReconciliationGroup[] {
  const names = text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '')
  const unknown = names.find((name) => !RECONCILIATION_GROUPS.some((group) => group === name))
  if (unknown !== undefined) {
    throw invalid({
      path: 'group_by',
      message: `${JSON.stringify(unknown)} is none of ${RECONCILIATION_GROUPS.join(', ')}`,
    })
  }
  return RECONCILIATION_GROUPS.filter((group) => names.includes(group))
}

function invalid(issue: FieldIssue): Problem {
  return new Problem({ code: 'invalid-request', errors: [issue] })
}

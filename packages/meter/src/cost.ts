import { z } from 'zod'
import { type CostSummary, type CostSums, dearestFirst, PARTS_MAX, regroup } from './local/cost-summary.ts'
import type { LocalLedger } from './local/local-ledger.ts'

/** What calls cost, at list price, over a range of time that ends now or between two instants. */
export interface CostSource {
  lastHour(provider?: string): Promise<CostSummary>
  lastDay(provider?: string): Promise<CostSummary>
  lastWeek(provider?: string): Promise<CostSummary>
  /** 30 days. */
  lastMonth(provider?: string): Promise<CostSummary>
  /** @param from included @param to excluded */
  between(from: Date | string, to: Date | string, provider?: string): Promise<CostSummary>
}

const HOUR_MS = 3_600_000

type Query = (startMs: number, endMs: number, provider: string | undefined) => Promise<CostSummary>

/** From local mode's SQLite file. */
export function createLocalCost(ledger: LocalLedger, now: () => number): CostSource {
  return costSource((startMs, endMs, provider) => ledger.cost(startMs, endMs, provider), now)
}

/** From the service's reports, four for each answer; the key needs the scope `read`. */
export function createServiceCost(service: {
  readonly url: string
  readonly apiKey: string
  readonly fetch: typeof fetch
  readonly now: () => number
}): CostSource {
  return costSource(async (startMs, endMs, provider) => {
    const report = async (groupBy: string): Promise<Report> => {
      const query = new URLSearchParams({
        start: new Date(startMs).toISOString(),
        end: new Date(endMs).toISOString(),
        group_by: groupBy,
        ...(provider !== undefined && { provider }),
      })
      const response = await service.fetch(`${service.url}/api/v1/costs/aggregate?${query}`, {
        headers: { authorization: `Bearer ${service.apiKey}` },
      })
      if (!response.ok)
        throw new Error(`the cost report answered ${response.status}: ${await response.text()}`)
      return reportSchema.parse(await response.json())
    }
    const [models, conversations, customers, features] = await Promise.all([
      report('provider,model'),
      report('conversation'),
      report('customer'),
      report('feature'),
    ])
    const byModel = models.groups.map((group) => ({
      provider: group.provider ?? '',
      model: group.model ?? null,
      ...sumsOf(group),
    }))
    const dearest = <Part extends object>({ groups }: Report, partOf: (group: ReportGroup) => Part) =>
      dearestFirst(groups.map((group) => ({ ...partOf(group), ...sumsOf(group) }))).slice(0, PARTS_MAX)
    return {
      ...sumsOf(models.totals),
      byProvider: regroup(byModel, (group) => ({ provider: group.provider })),
      byModel: dearestFirst(byModel),
      byExecution: dearest(conversations, (group) => ({ execution: group.conversation ?? null })),
      byCustomer: dearest(customers, (group) => ({ customer: group.customer ?? null })),
      byFeature: dearest(features, (group) => ({ feature: group.feature ?? null })),
    }
  }, service.now)
}

const sums = {
  requests: z.number(),
  input_tokens: z.number(),
  output_tokens: z.number(),
  list_cost: z.string(),
  unpriced_requests: z.number(),
}
const key = z.string().nullable().optional()
const groupSchema = z.object({
  provider: key,
  model: key,
  conversation: key,
  customer: key,
  feature: key,
  ...sums,
})
const reportSchema = z.object({ groups: z.array(groupSchema), totals: z.object(sums) })
type Report = z.infer<typeof reportSchema>
type ReportGroup = z.infer<typeof groupSchema>

function sumsOf(report: Report['totals']): CostSums {
  return {
    requests: report.requests,
    inputTokens: report.input_tokens,
    outputTokens: report.output_tokens,
    listCostUsd: report.list_cost,
    unpricedRequests: report.unpriced_requests,
  }
}

function costSource(query: Query, now: () => number): CostSource {
  // One millisecond past now: what was metered in this very moment is in.
  const last = (lengthMs: number) => (provider?: string) => {
    const endMs = now() + 1
    return query(endMs - lengthMs, endMs, provider)
  }
  return {
    lastHour: last(HOUR_MS),
    lastDay: last(24 * HOUR_MS),
    lastWeek: last(7 * 24 * HOUR_MS),
    lastMonth: last(30 * 24 * HOUR_MS),
    between(from, to, provider) {
      const startMs = new Date(from).getTime()
      const endMs = new Date(to).getTime()
      if (Number.isNaN(startMs) || Number.isNaN(endMs))
        throw new TypeError('cost.between takes dates or RFC 3339 texts')
      return query(startMs, endMs, provider)
    },
  }
}

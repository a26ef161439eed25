import { type CostDimension, type CostGroup, type CostSums, dearestFirst } from '@tokentally/meter/local'
import { z } from 'zod'
import { askService, baseOf, type ServiceAddress, ServiceError } from './service-request.ts'
import type { EventQuery, ExportedEvent, UsageSource } from './usage-source.ts'

const PAGE_EVENTS = 1_000

/** What the service groups by for each dimension. It knows no runs beyond conversations. */
const GROUP_BY: Readonly<Record<CostDimension, string>> = {
  provider: 'provider',
  model: 'provider,model',
  execution: 'conversation',
  customer: 'customer',
  feature: 'feature',
  day: '',
}

/** Usage from a service's reports. Events come newest first. */
export function openServiceSource(service: ServiceAddress): UsageSource {
  const url = baseOf(service.url)
  const get = async (path: string, query: Readonly<Record<string, string | undefined>>): Promise<unknown> => {
    const parameters = new URLSearchParams()
    for (const [name, value] of Object.entries(query)) if (value !== undefined) parameters.set(name, value)
    const answer = await askService(service, `${path}?${parameters}`)
    if (answer.ok) return answer.json
    const { detail } = answer.problem
    throw new ServiceError(`${url} answered ${answer.status}${detail === undefined ? '' : `: ${detail}`}`)
  }

  return {
    name: url,
    async costs({ by, timeZone, ...range }) {
      const report = reportSchema.safeParse(
        await get('/api/v1/costs/aggregate', {
          ...rangeParameters(range),
          ...(by === 'day' ? { granularity: 'day' } : { group_by: GROUP_BY[by] }),
          timezone: timeZone,
        }),
      )
      if (!report.success) throw new ServiceError(`${url} does not answer as a TokenTally service`)
      const groups = report.data.groups.map((group) => ({ keys: keysOf(group, by), ...sumsOf(group) }))
      return { groups: by === 'day' ? groups : dearestFirst(groups), totals: sumsOf(report.data.totals) }
    },
    async *events(range) {
      let cursor: string | undefined
      do {
        const page = pageSchema.safeParse(
          await get('/api/v1/usage', { ...rangeParameters(range), limit: String(PAGE_EVENTS), cursor }),
        )
        if (!page.success) throw new ServiceError(`${url} does not answer as a TokenTally service`)
        for (const event of page.data.events) yield exported(event)
        cursor = page.data.next_cursor ?? undefined
      } while (cursor !== undefined)
    },
    close: () => undefined,
  }
}

function rangeParameters(range: EventQuery): Record<string, string | undefined> {
  return {
    start: new Date(range.startMs).toISOString(),
    end: new Date(range.endMs).toISOString(),
    provider: range.provider,
    customer: range.customer,
  }
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
  bucket: key,
  ...sums,
})
const reportSchema = z.object({ groups: z.array(groupSchema), totals: z.object(sums) })
const pageSchema = z.object({
  events: z.array(
    z.looseObject({
      received_at: z.unknown(),
      rating: z.object({ status: z.string(), list_cost: z.string().nullable() }),
    }),
  ),
  next_cursor: z.string().nullable(),
})

function keysOf(group: z.infer<typeof groupSchema>, by: CostDimension): CostGroup['keys'] {
  switch (by) {
    case 'day':
      return { day: group.bucket ?? null }
    case 'model':
      return { provider: group.provider ?? null, model: group.model ?? null }
    case 'execution':
      return { execution: group.conversation ?? null }
    case 'provider':
    case 'customer':
    case 'feature':
      return { [by]: group[by] ?? null }
  }
}

function sumsOf(report: z.infer<z.ZodObject<typeof sums>>): CostSums {
  return {
    requests: report.requests,
    inputTokens: report.input_tokens,
    outputTokens: report.output_tokens,
    listCostUsd: report.list_cost,
    unpricedRequests: report.unpriced_requests,
  }
}

function exported(event: z.infer<typeof pageSchema>['events'][number]): ExportedEvent {
  const { rating, received_at: _, ...fields } = event
  return { ...fields, list_cost_usd: rating.list_cost, rating_status: rating.status }
}

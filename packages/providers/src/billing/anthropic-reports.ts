import { canonicalTier, decimal, type VendorRow } from '@tokentally/core'
import { z } from 'zod'
import { amountOf, countOf, dayOfText, textOf } from './amounts.ts'
import { refuse } from './billing-error.ts'
import { type BillingReport, parsed } from './report.ts'

/**
 * Anthropic's usage and cost reports, `GET /v1/organizations/usage_report/messages` and `…/cost_report`, as its API
 * reference describes them (platform.claude.com/docs/en/api/admin, read 2026-11). Counts are disjoint. Amounts are
 * cents, as decimal text. Numbers are text here (`numbersAsText`).
 */

const numeric = z.string().nullish()
const name = z.string().nullish()
const page = <Result extends z.ZodType>(result: Result) =>
  z.object({
    data: z.array(z.object({ starting_at: z.string(), results: z.array(result) })),
  })

const usageResult = z.looseObject({
  uncached_input_tokens: z.string(),
  cache_creation: z
    .object({ ephemeral_1h_input_tokens: numeric, ephemeral_5m_input_tokens: numeric })
    .nullish(),
  cache_read_input_tokens: numeric,
  output_tokens: z.string(),
  server_tool_use: z.object({ web_search_requests: numeric }).nullish(),
  model: name,
  api_key_id: name,
  workspace_id: name,
  service_tier: name,
})

/** @throws BillingError that names the bucket and the field */
export function readAnthropicUsage(value: unknown): BillingReport {
  const { data } = parsed(page(usageResult), value)
  const rows: VendorRow[] = []
  const days: string[] = []
  data.forEach((bucket, index) => {
    const day = dayOfText(`data.${index}.starting_at`, bucket.starting_at)
    days.push(day)
    bucket.results.forEach((result, at) => {
      const path = `data.${index}.results.${at}`
      if (result.model === null || result.model === undefined) {
        refuse(`${path}.model`, 'is missing: ask with group_by[]=model')
      }
      const quantities = {
        input_tokens: countOf(`${path}.uncached_input_tokens`, result.uncached_input_tokens),
        cache_write_1h_tokens: countOf(
          `${path}.cache_creation.ephemeral_1h_input_tokens`,
          result.cache_creation?.ephemeral_1h_input_tokens,
        ),
        cache_write_tokens: countOf(
          `${path}.cache_creation.ephemeral_5m_input_tokens`,
          result.cache_creation?.ephemeral_5m_input_tokens,
        ),
        cache_read_tokens: countOf(`${path}.cache_read_input_tokens`, result.cache_read_input_tokens),
        output_tokens: countOf(`${path}.output_tokens`, result.output_tokens),
        web_search_requests: countOf(
          `${path}.server_tool_use.web_search_requests`,
          result.server_tool_use?.web_search_requests,
        ),
      }
      for (const [meter, quantity] of Object.entries(quantities)) {
        if (quantity.eq(decimal('0'))) continue
        rows.push({
          day,
          kind: 'usage',
          model: result.model,
          meter,
          serviceTier: result.service_tier == null ? null : canonicalTier(result.service_tier),
          keyId: result.api_key_id ?? null,
          projectId: result.workspace_id ?? null,
          quantity: textOf(quantity),
          costUsd: null,
          lines: 1,
        })
      }
    })
  })
  return { days, rows, ignored: 0, part: 'messages' }
}

const costResult = z.looseObject({
  currency: z.string(),
  amount: z.string(),
  workspace_id: name,
  description: name,
  cost_type: name,
  model: name,
  service_tier: name,
  token_type: name,
})

const METER_BY_TOKEN_TYPE: Readonly<Record<string, string>> = {
  uncached_input_tokens: 'input_tokens',
  output_tokens: 'output_tokens',
  cache_read_input_tokens: 'cache_read_tokens',
  'cache_creation.ephemeral_1h_input_tokens': 'cache_write_1h_tokens',
  'cache_creation.ephemeral_5m_input_tokens': 'cache_write_tokens',
}
const DOLLARS_PER_CENT = decimal('0.01')

/** @throws BillingError that names the bucket and the field */
export function readAnthropicCosts(value: unknown): BillingReport {
  const { data } = parsed(page(costResult), value)
  const rows: VendorRow[] = []
  const days: string[] = []
  data.forEach((bucket, index) => {
    const day = dayOfText(`data.${index}.starting_at`, bucket.starting_at)
    days.push(day)
    bucket.results.forEach((result, at) => {
      const path = `data.${index}.results.${at}`
      if (result.currency.toUpperCase() !== 'USD')
        refuse(`${path}.currency`, `must be USD, not ${result.currency}`)
      if (result.description === null || result.description === undefined) {
        refuse(`${path}.description`, 'is missing: ask with group_by[]=description')
      }
      const meter = result.token_type == null ? undefined : METER_BY_TOKEN_TYPE[result.token_type]
      const isUsage = result.model != null && meter !== undefined
      rows.push({
        day,
        kind: isUsage ? 'usage' : 'other',
        model: isUsage ? (result.model ?? null) : result.description,
        meter: isUsage ? meter : null,
        serviceTier: result.service_tier == null ? null : canonicalTier(result.service_tier),
        keyId: null,
        projectId: result.workspace_id ?? null,
        quantity: null,
        costUsd: textOf(amountOf(`${path}.amount`, result.amount).times(DOLLARS_PER_CENT)),
        lines: 1,
      })
    })
  })
  return { days, rows, ignored: 0, part: 'cost_report' }
}

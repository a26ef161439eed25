import type { HostMetadata, UsageEvent, VendorUsage } from '@tokentally/core'
import type { StoredLine } from './ledger-row.ts'

/** A row of `usage_event`, as `pg` reads it: bigint and numeric as text, timestamptz as Date. */
export interface StoredEventRow {
  readonly organization_id: string
  readonly event_id: string
  readonly ts: Date
  readonly dimension_set_id: string
  readonly received_at: Date
  readonly customer_id: string | null
  readonly user_id: string | null
  readonly team_id: string | null
  readonly project_id: string | null
  readonly business_unit: string | null
  readonly cost_center: string | null
  readonly feature: string | null
  readonly conversation_id: string | null
  readonly agent: string | null
  readonly environment: string | null
  readonly provider: string
  readonly model: string | null
  readonly response_model: string | null
  readonly operation: string
  readonly service_tier: string | null
  readonly region: string | null
  readonly status: UsageEvent['status']
  readonly streamed: boolean
  readonly estimated: boolean
  readonly input_tokens: string | null
  readonly cache_read_tokens: string | null
  readonly cache_write_tokens: string | null
  readonly output_tokens: string | null
  readonly reasoning_tokens: string | null
  readonly meters: Readonly<Record<string, number>> | null
  readonly rating_status: 'rated' | 'unpriced' | 'partly_unpriced'
  readonly lines: readonly StoredLine[]
  readonly list_cost_usd: string
  readonly sell_cost_usd: string
  readonly unpriced_meters: readonly string[] | null
  readonly price_version_id: string | null
  readonly latency_ms: number | null
  readonly time_to_first_token_ms: number | null
  readonly provider_request_id: string | null
  readonly trace_id: string | null
  readonly span_id: string | null
  readonly prompt_hash: string | null
  readonly attempt: number | null
  readonly call_id: string | null
  readonly tags: Readonly<Record<string, string>> | null
  readonly host: HostMetadata | null
  readonly reason: string | null
  readonly mismatch: string | null
  readonly vendor_usage: VendorUsage | null
  readonly reported_cost_usd: string | null
  readonly tokenizer: string | null
  readonly counted_input_tokens: string | null
  readonly counted_output_tokens: string | null
  readonly markup_rule_id: string | null
  readonly sell_currency: string | null
  readonly fx_rate: string | null
  readonly fx_date: string | null
  /** Null for usage. The amounts of a reversal count negatively. */
  readonly entry_kind: 'reversal' | 'replacement' | null
  readonly corrects_event_id: string | null
  readonly correction_id: string | null
  readonly api_key_id: string | null
}

/** The event as it was ingested. */
export function storedEvent(row: StoredEventRow): UsageEvent {
  const quantities: Record<string, number> = { ...row.meters }
  for (const meter of TOKEN_COLUMNS) {
    const count = row[meter]
    if (count !== null) quantities[meter] = Number(count)
  }
  return {
    eventId: row.event_id,
    tsMs: row.ts.getTime(),
    provider: row.provider,
    operation: row.operation,
    quantities,
    status: row.status,
    streamed: row.streamed,
    estimated: row.estimated,
    ...(row.customer_id !== null && { customer: row.customer_id }),
    ...(row.user_id !== null && { user: row.user_id }),
    ...(row.team_id !== null && { team: row.team_id }),
    ...(row.project_id !== null && { project: row.project_id }),
    ...(row.business_unit !== null && { businessUnit: row.business_unit }),
    ...(row.cost_center !== null && { costCenter: row.cost_center }),
    ...(row.feature !== null && { feature: row.feature }),
    ...(row.conversation_id !== null && { conversation: row.conversation_id }),
    ...(row.agent !== null && { agent: row.agent }),
    ...(row.environment !== null && { environment: row.environment }),
    ...(row.model !== null && { model: row.model }),
    ...(row.response_model !== null && { responseModel: row.response_model }),
    ...(row.service_tier !== null && { serviceTier: row.service_tier }),
    ...(row.region !== null && { region: row.region }),
    ...(row.latency_ms !== null && { latencyMs: row.latency_ms }),
    ...(row.time_to_first_token_ms !== null && { timeToFirstTokenMs: row.time_to_first_token_ms }),
    ...(row.provider_request_id !== null && { providerRequestId: row.provider_request_id }),
    ...(row.trace_id !== null && { traceId: row.trace_id }),
    ...(row.span_id !== null && { spanId: row.span_id }),
    ...(row.prompt_hash !== null && { promptHash: row.prompt_hash }),
    ...(row.attempt !== null && { attempt: row.attempt }),
    ...(row.call_id !== null && { callId: row.call_id }),
    ...(row.tags !== null && { tags: row.tags }),
    ...(row.host !== null && { host: row.host }),
    ...(row.reason !== null && { reason: row.reason }),
    ...(row.mismatch !== null && { mismatch: row.mismatch }),
    ...(row.vendor_usage !== null && { vendorUsage: row.vendor_usage }),
    ...(row.reported_cost_usd !== null && { reportedCostUsd: row.reported_cost_usd }),
    ...(row.tokenizer !== null && { tokenizer: row.tokenizer }),
    ...((row.counted_input_tokens !== null || row.counted_output_tokens !== null) && {
      counted: {
        ...(row.counted_input_tokens !== null && { inputTokens: Number(row.counted_input_tokens) }),
        ...(row.counted_output_tokens !== null && { outputTokens: Number(row.counted_output_tokens) }),
      },
    }),
  }
}

const TOKEN_COLUMNS = [
  'input_tokens',
  'cache_read_tokens',
  'cache_write_tokens',
  'output_tokens',
  'reasoning_tokens',
] as const

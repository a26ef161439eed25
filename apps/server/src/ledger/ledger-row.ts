import { decimalText, disjointQuantities, type Rating, type Sale, type UsageEvent } from '@tokentally/core'
import { type CopyField, copyFields } from './copy-text.ts'

/** Columns of `usage_event` in the order in which `ledgerFields` writes them. */
export const LEDGER_COLUMNS = [
  'organization_id',
  'event_id',
  'ts',
  'dimension_set_id',
  'customer_id',
  'user_id',
  'team_id',
  'project_id',
  'business_unit',
  'cost_center',
  'feature',
  'conversation_id',
  'agent',
  'environment',
  'provider',
  'model',
  'response_model',
  'operation',
  'service_tier',
  'region',
  'status',
  'streamed',
  'estimated',
  'input_tokens',
  'cache_read_tokens',
  'cache_write_tokens',
  'output_tokens',
  'reasoning_tokens',
  'meters',
  'rating_status',
  'lines',
  'list_cost_usd',
  'sell_cost_usd',
  'unpriced_meters',
  'price_version_id',
  'latency_ms',
  'time_to_first_token_ms',
  'provider_request_id',
  'trace_id',
  'span_id',
  'prompt_hash',
  'attempt',
  'call_id',
  'tags',
  'host',
  'reason',
  'mismatch',
  'vendor_usage',
  'reported_cost_usd',
  'tokenizer',
  'counted_input_tokens',
  'counted_output_tokens',
  'markup_rule_id',
  'sell_currency',
  'fx_rate',
  'fx_date',
  'entry_kind',
  'corrects_event_id',
  'correction_id',
  'api_key_id',
] as const

/** One line of the rating as it is stored: strings, so that no digit passes through a float. */
export interface StoredLine {
  readonly meter: string
  readonly quantity: string
  /** US dollars per unit; null while no price is known. */
  readonly unit_price_usd: string | null
  readonly cost_usd: string | null
}

/** An event with everything that is decided before it is written. */
export interface LedgerEntry {
  readonly organizationId: string
  readonly event: UsageEvent
  readonly contentHash: Buffer
  readonly dimensionSetId: string
  readonly rating: Rating
  readonly sale: Sale
  /** The API key that sent the event; absent for what the service made itself. */
  readonly apiKeyId?: string | undefined
  /** What this entry mends, when it is no usage of its own. */
  readonly mends?: Mending | undefined
}

/** An entry that takes another event back, or stands in for one that was taken back. */
export interface Mending {
  readonly kind: 'reversal' | 'replacement'
  readonly eventId: string
  readonly correctionId: string
}

/** The entry as fields of COPY text, one for each of `LEDGER_COLUMNS`. */
export function ledgerFields(entry: LedgerEntry): string {
  const { event, rating, sale, mends } = entry
  const { quantities } = event
  const fields: CopyField[] = [
    entry.organizationId,
    event.eventId,
    new Date(event.tsMs).toISOString(),
    entry.dimensionSetId,
    event.customer,
    event.user,
    event.team,
    event.project,
    event.businessUnit,
    event.costCenter,
    event.feature,
    event.conversation,
    event.agent,
    event.environment,
    event.provider,
    event.model,
    event.responseModel,
    event.operation,
    event.serviceTier,
    event.region,
    event.status,
    event.streamed,
    event.estimated,
    quantities['input_tokens'],
    quantities['cache_read_tokens'],
    quantities['cache_write_tokens'],
    quantities['output_tokens'],
    quantities['reasoning_tokens'],
    furtherMeters(event),
    rating.status,
    JSON.stringify(storedLines(rating, event)),
    decimalText(rating.listCostUsd),
    decimalText(sale.sellCostUsd),
    rating.unpricedMeters.length === 0
      ? null
      : `{${rating.unpricedMeters.map((meter) => `"${meter}"`).join(',')}}`,
    rating.priceVersionId,
    event.latencyMs,
    event.timeToFirstTokenMs,
    event.providerRequestId,
    event.traceId,
    event.spanId,
    event.promptHash,
    event.attempt,
    event.callId,
    jsonText(event.tags),
    jsonText(event.host),
    event.reason,
    event.mismatch,
    jsonText(event.vendorUsage),
    event.reportedCostUsd,
    event.tokenizer,
    event.counted?.inputTokens,
    event.counted?.outputTokens,
    sale.markupRuleId,
    sale.conversion?.currency,
    sale.conversion?.rate,
    sale.conversion?.rateDate,
    mends?.kind,
    mends?.eventId,
    mends?.correctionId,
    entry.apiKeyId,
  ]
  return copyFields(fields)
}

const OWN_COLUMN: ReadonlySet<string> = new Set([
  'input_tokens',
  'cache_read_tokens',
  'cache_write_tokens',
  'output_tokens',
  'reasoning_tokens',
])

function furtherMeters(event: UsageEvent): string | null {
  let further: Record<string, number> | undefined
  for (const meter in event.quantities) {
    if (OWN_COLUMN.has(meter)) continue
    further ??= {}
    further[meter] = event.quantities[meter] ?? 0
  }
  return further === undefined ? null : JSON.stringify(further)
}

/** Priced and unpriced lines of a rating, in the form in which the ledger keeps them. */
export function storedLines(rating: Rating, event: UsageEvent): readonly StoredLine[] {
  const lines: StoredLine[] = rating.lines.map((line) => ({
    meter: line.meter,
    quantity: String(line.quantity),
    unit_price_usd: line.unitPriceUsd,
    cost_usd: line.costUsd,
  }))
  if (rating.unpricedMeters.length > 0) {
    const disjoint = disjointQuantities(event.quantities)
    for (const meter of rating.unpricedMeters) {
      lines.push({ meter, quantity: String(disjoint[meter] ?? 0), unit_price_usd: null, cost_usd: null })
    }
  }
  return lines
}

function jsonText(value: object | undefined): string | null {
  return value === undefined ? null : JSON.stringify(value)
}

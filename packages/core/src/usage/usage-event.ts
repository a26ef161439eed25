import { hash } from 'node:crypto'
import { z } from 'zod'
import { findContradictions, type Quantities } from './meters.ts'
import { usualEventCheck } from './usual-event.ts'
import { type VendorUsage, vendorUsageSchema } from './vendor-usage.ts'

/**
 * A usage event: one metered call, or one other billable use. This file is the only place where the words
 * of the wire (snake_case) and the words of the code (camelCase) are translated into each other.
 */

/** Largest quantity of one meter on one event: a thousand of the largest context windows. Sums stay within bigint. */
export const QUANTITY_MAX = 10_000_000_000
/** Nothing was metered before this; an earlier time is a unit mistake (seconds sent as milliseconds). */
export const TS_MIN_MS = Date.UTC(2020, 0, 1)
/** How far ahead of the service's clock an event's time may lie: clocks drift, time zones get mixed up. */
export const TS_AHEAD_MAX_MS = 24 * 3_600_000

/** Whom a call is for. Ids are the organization's own; all optional. */
export interface Dimensions {
  readonly customer?: string
  readonly user?: string
  readonly team?: string
  readonly project?: string
  readonly businessUnit?: string
  readonly costCenter?: string
  readonly feature?: string
  readonly conversation?: string
  readonly agent?: string
  readonly environment?: string
  readonly tags?: Readonly<Record<string, string>>
}

/** `ok`; `error`: nothing billable came; `aborted`: billed for what came until then. */
export type UsageStatus = 'ok' | 'error' | 'aborted'

/** The normalized usage event. Both ingestion doors and the meter produce exactly this. */
export interface UsageEvent extends Dimensions {
  /** Unique in its organization; also the idempotency key. */
  readonly eventId: string
  /** When the call was made, UTC milliseconds since 1970. */
  readonly tsMs: number
  readonly provider: string
  /** The model that was asked for. */
  readonly model?: string
  /** The model that answered; decides the price when present. */
  readonly responseModel?: string
  readonly operation: string
  readonly serviceTier?: string
  readonly region?: string
  /** Every reported meter by its wire name; `input_tokens` and `output_tokens` are totals (see meters.ts). */
  readonly quantities: Quantities
  readonly latencyMs?: number
  readonly timeToFirstTokenMs?: number
  readonly status: UsageStatus
  readonly streamed: boolean
  /** True when a tokenizer counted, because the provider reported nothing. */
  readonly estimated: boolean
  /** Why it is estimated, aborted or failed: a code such as `stream_cut`, `no_usage`, `rate_limit_error`. */
  readonly reason?: string
  /** How the provider's own counts contradict each other. The totals stand. */
  readonly mismatch?: string
  /** The provider's usage as it came: numbers alone. */
  readonly vendorUsage?: VendorUsage
  /** What the provider says that it charged, US dollars as plain decimal text; kept beside our rating, never used for it. */
  readonly reportedCostUsd?: string
  /** What counted the estimate, or `counted`, with its version: `tiktoken/o200k_base@1.0.22`. */
  readonly tokenizer?: string
  /** On a sample of calls: what the tokenizer makes of the text that the provider counted, to see it drift. */
  readonly counted?: CountedTokens
  readonly providerRequestId?: string
  readonly traceId?: string
  readonly spanId?: string
  readonly promptHash?: string
  /** Number of the HTTP attempt within one logical call, from 0; failed attempts are events of status `error`. */
  readonly attempt?: number
  /** The same for all attempts of one logical call. */
  readonly callId?: string
  readonly host?: HostMetadata
}

/** A tokenizer's counts, beside those of the provider. */
export type CountedTokens = {
  readonly inputTokens?: number
  readonly outputTokens?: number
}

/** Where the metered process runs. Values are text; one level of nesting is allowed (`k8s.pod`). */
export type HostMetadata = Readonly<Record<string, string | Readonly<Record<string, string>>>>

/** One thing wrong with one field, named as the sender wrote it. */
export interface FieldIssue {
  readonly path: string
  readonly message: string
}

const id = z
  .string()
  .min(1)
  .max(512)
  .refine((value) => value.isWellFormed() && !value.includes('\0'), 'must be well-formed Unicode without NUL')
const count = z.number().int().min(0).max(QUANTITY_MAX)
const quantity = z.number().min(0).max(QUANTITY_MAX)
const text = z
  .string()
  .max(512)
  .refine((value) => value.isWellFormed() && !value.includes('\0'), 'must be well-formed Unicode without NUL')

/**
 * The JSON form of a usage event, as in `POST /api/v1/usage`. The OpenAPI document is generated from this
 * schema, and requests are validated by it.
 */
export const usageEventSchema = z
  .strictObject({
    event_id: id
      .max(256)
      .optional()
      .describe('Your idempotency key, unique in your organization. Made by the server when absent.'),
    ts: z.iso
      .datetime({ offset: true })
      .optional()
      .describe('When the call was made, RFC 3339. Time of receipt when absent.'),
    customer_id: id.optional(),
    user_id: id.optional(),
    team_id: id.optional(),
    project_id: id.optional(),
    business_unit: id.optional(),
    cost_center: id.optional(),
    feature: id.optional(),
    conversation_id: id.optional(),
    agent: id.optional(),
    environment: id.optional(),
    provider: id.max(128),
    model: id.optional().describe('Required for events with token meters.'),
    response_model: id.optional().describe('The model that answered, when it differs; decides the price.'),
    operation: id.max(64).optional().describe('`chat` when absent.'),
    service_tier: id.max(64).optional(),
    region: id.max(64).optional(),
    input_tokens: count.optional().describe('All input, cached included.'),
    cache_read_tokens: count.optional().describe('Part of input_tokens.'),
    cache_write_tokens: count.optional().describe('Part of input_tokens.'),
    output_tokens: count.optional().describe('All output, reasoning included.'),
    reasoning_tokens: count.optional().describe('Part of output_tokens.'),
    meters: z
      .record(
        z.string().regex(/^[a-z][a-z0-9_]{0,62}$/, 'a meter is named in snake_case, 63 characters at most'),
        quantity,
      )
      .optional()
      .describe('Further meters by name, e.g. {"web_search_requests": 1}.'),
    latency_ms: quantity.optional(),
    time_to_first_token_ms: quantity.optional(),
    status: z.enum(['ok', 'error', 'aborted']).optional(),
    streamed: z.boolean().optional(),
    estimated: z
      .boolean()
      .optional()
      .describe('True when a tokenizer counted, because the provider reported nothing.'),
    reason: z
      .string()
      .regex(
        /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/,
        'must be a code of letters, digits and _ . -, 64 characters at most',
      )
      .optional()
      .describe('Why the event is estimated, aborted or failed, as a code; never text of a message.'),
    mismatch: text.min(1).optional().describe("How the provider's own counts contradict each other."),
    vendor_usage: vendorUsageSchema
      .optional()
      .describe("The provider's usage as it came: objects of numbers, no text."),
    reported_cost_usd: z
      .string()
      .regex(/^\d{1,12}(\.\d{1,18})?$/, 'must be a decimal number as text, such as "0.00123"')
      .optional()
      .describe('What the provider says that it charged; kept beside our own rating.'),
    tokenizer: id.max(128).optional().describe('What counted, with its version, where a tokenizer did.'),
    counted_input_tokens: count
      .optional()
      .describe("What the tokenizer counts where the provider's count stands in input_tokens."),
    counted_output_tokens: count
      .optional()
      .describe("What the tokenizer counts where the provider's count stands in output_tokens."),
    provider_request_id: id.optional(),
    trace_id: z
      .string()
      .regex(/^[0-9a-f]{32}$/, 'must be 32 lower-case hex digits')
      .optional(),
    span_id: z
      .string()
      .regex(/^[0-9a-f]{16}$/, 'must be 16 lower-case hex digits')
      .optional(),
    prompt_hash: z
      .string()
      .regex(/^hmac-sha256:[0-9a-f]{64}$/, 'must be "hmac-sha256:" and 64 hex digits; text is never accepted')
      .optional(),
    attempt: z.number().int().min(0).max(1000).optional(),
    call_id: id.max(256).optional(),
    tags: z
      .record(id.max(64), text)
      .refine((tags) => Object.keys(tags).length <= 50, 'at most 50 tags')
      .optional(),
    host: z
      .record(id.max(64), z.union([text, z.record(id.max(64), text)]))
      .refine((host) => Object.keys(host).length <= 50, 'at most 50 entries')
      .optional(),
  })
  .describe('A usage event')

/** A usage event as JSON, on the wire in both directions. */
export type UsageEventJson = z.input<typeof usageEventSchema>

/** What the service knows at receipt and the sender need not say. */
export interface Receipt {
  readonly nowMs: number
  readonly newEventId: () => string
}

export type ParsedUsageEvent =
  | { readonly ok: true; readonly event: UsageEvent; readonly contentHash: Buffer }
  | { readonly ok: false; readonly eventId?: string; readonly issues: readonly FieldIssue[] }

/**
 * Checks and normalizes one JSON event. Reports every problem at once, each with the field as sent.
 *
 * @param input parsed JSON, untrusted
 */
export function parseUsageEvent(input: unknown, receipt: Receipt): ParsedUsageEvent {
  let json: z.output<typeof usageEventSchema>
  if (isUsual(input)) json = input
  else {
    const parsed = usageEventSchema.safeParse(input)
    if (!parsed.success) {
      const eventId = eventIdOf(input)
      return {
        ok: false,
        ...(eventId !== undefined && { eventId }),
        issues: parsed.error.issues.flatMap(fieldIssues),
      }
    }
    json = parsed.data
  }
  const event = normalize(json, receipt)
  const issues = [...doubleMeters(json), ...contradictions(event, receipt.nowMs)]
  if (issues.length > 0) return { ok: false, eventId: event.eventId, issues }
  return { ok: true, event, contentHash: contentHash(event, json.ts !== undefined) }
}

const usualEvent = usualEventCheck(QUANTITY_MAX)

function isUsual(input: unknown): input is z.output<typeof usageEventSchema> {
  return usualEvent(input)
}

/** The JSON form of dimensions, without the tags. */
function dimensionFieldsToJson(dimensions: Dimensions) {
  return defined({
    customer_id: dimensions.customer,
    user_id: dimensions.user,
    team_id: dimensions.team,
    project_id: dimensions.project,
    business_unit: dimensions.businessUnit,
    cost_center: dimensions.costCenter,
    feature: dimensions.feature,
    conversation_id: dimensions.conversation,
    agent: dimensions.agent,
    environment: dimensions.environment,
  })
}

/** The JSON form of dimensions, as on a usage event. */
export function dimensionsToJson(dimensions: Dimensions): Partial<UsageEventJson> {
  return { ...dimensionFieldsToJson(dimensions), ...defined({ tags: dimensions.tags }) }
}

/** The JSON form of an event. `parseUsageEvent` of the result gives the event back. */
export function usageEventToJson(event: UsageEvent): UsageEventJson {
  const meters: Record<string, number> = {}
  const totals: Record<string, number> = {}
  for (const [meter, value] of Object.entries(event.quantities)) {
    if (FIELD_METERS.has(meter)) totals[meter] = value
    else meters[meter] = value
  }
  return {
    event_id: event.eventId,
    ts: new Date(event.tsMs).toISOString(),
    ...dimensionFieldsToJson(event),
    provider: event.provider,
    ...defined({ model: event.model, response_model: event.responseModel }),
    operation: event.operation,
    ...defined({ service_tier: event.serviceTier, region: event.region }),
    ...totals,
    ...(Object.keys(meters).length > 0 && { meters }),
    ...defined({ latency_ms: event.latencyMs, time_to_first_token_ms: event.timeToFirstTokenMs }),
    status: event.status,
    streamed: event.streamed,
    estimated: event.estimated,
    ...defined({
      reason: event.reason,
      mismatch: event.mismatch,
      vendor_usage: event.vendorUsage,
      reported_cost_usd: event.reportedCostUsd,
      tokenizer: event.tokenizer,
      counted_input_tokens: event.counted?.inputTokens,
      counted_output_tokens: event.counted?.outputTokens,
      provider_request_id: event.providerRequestId,
      trace_id: event.traceId,
      span_id: event.spanId,
      prompt_hash: event.promptHash,
      attempt: event.attempt,
      call_id: event.callId,
      tags: event.tags,
      host: event.host,
    }),
  }
}

const FIELD_METERS: ReadonlySet<string> = new Set([
  'input_tokens',
  'cache_read_tokens',
  'cache_write_tokens',
  'output_tokens',
  'reasoning_tokens',
])

type Writable<T> = { -readonly [K in keyof T]: T[K] }

// Field by field, not through an object of all of them: this is done for every event that arrives.
function normalize(json: z.output<typeof usageEventSchema>, receipt: Receipt): UsageEvent {
  const quantities: Record<string, number> = { ...json.meters }
  if (json.input_tokens !== undefined) quantities['input_tokens'] = json.input_tokens
  if (json.cache_read_tokens !== undefined) quantities['cache_read_tokens'] = json.cache_read_tokens
  if (json.cache_write_tokens !== undefined) quantities['cache_write_tokens'] = json.cache_write_tokens
  if (json.output_tokens !== undefined) quantities['output_tokens'] = json.output_tokens
  if (json.reasoning_tokens !== undefined) quantities['reasoning_tokens'] = json.reasoning_tokens
  const event: Writable<UsageEvent> = {
    eventId: json.event_id ?? receipt.newEventId(),
    tsMs: json.ts === undefined ? receipt.nowMs : Date.parse(json.ts),
    provider: json.provider,
    operation: json.operation ?? 'chat',
    quantities,
    status: json.status ?? 'ok',
    streamed: json.streamed ?? false,
    estimated: json.estimated ?? false,
  }
  if (json.customer_id !== undefined) event.customer = json.customer_id
  if (json.user_id !== undefined) event.user = json.user_id
  if (json.team_id !== undefined) event.team = json.team_id
  if (json.project_id !== undefined) event.project = json.project_id
  if (json.business_unit !== undefined) event.businessUnit = json.business_unit
  if (json.cost_center !== undefined) event.costCenter = json.cost_center
  if (json.feature !== undefined) event.feature = json.feature
  if (json.conversation_id !== undefined) event.conversation = json.conversation_id
  if (json.agent !== undefined) event.agent = json.agent
  if (json.environment !== undefined) event.environment = json.environment
  if (json.model !== undefined) event.model = json.model
  if (json.response_model !== undefined) event.responseModel = json.response_model
  if (json.service_tier !== undefined) event.serviceTier = json.service_tier
  if (json.region !== undefined) event.region = json.region
  if (json.latency_ms !== undefined) event.latencyMs = json.latency_ms
  if (json.time_to_first_token_ms !== undefined) event.timeToFirstTokenMs = json.time_to_first_token_ms
  if (json.reason !== undefined) event.reason = json.reason
  if (json.mismatch !== undefined) event.mismatch = json.mismatch
  const vendorUsage = nonEmpty(json.vendor_usage)
  if (vendorUsage !== undefined) event.vendorUsage = vendorUsage
  if (json.reported_cost_usd !== undefined) event.reportedCostUsd = json.reported_cost_usd
  if (json.tokenizer !== undefined) event.tokenizer = json.tokenizer
  const counted = countedTokens(json.counted_input_tokens, json.counted_output_tokens)
  if (counted !== undefined) event.counted = counted
  if (json.provider_request_id !== undefined) event.providerRequestId = json.provider_request_id
  if (json.trace_id !== undefined) event.traceId = json.trace_id
  if (json.span_id !== undefined) event.spanId = json.span_id
  if (json.prompt_hash !== undefined) event.promptHash = json.prompt_hash
  if (json.attempt !== undefined) event.attempt = json.attempt
  if (json.call_id !== undefined) event.callId = json.call_id
  const tags = nonEmpty(json.tags)
  if (tags !== undefined) event.tags = tags
  const host = nonEmpty(json.host)
  if (host !== undefined) event.host = host
  return event
}

function countedTokens(input: number | undefined, output: number | undefined): CountedTokens | undefined {
  if (input === undefined && output === undefined) return undefined
  return {
    ...(input !== undefined && { inputTokens: input }),
    ...(output !== undefined && { outputTokens: output }),
  }
}

/** Saying nothing and saying it with an empty object is the same event. */
function nonEmpty<T extends object>(entries: T | undefined): T | undefined {
  return entries === undefined || Object.keys(entries).length === 0 ? undefined : entries
}

/** Meters that have a field of their own and stand under `meters` with another quantity. */
function doubleMeters(json: z.output<typeof usageEventSchema>): FieldIssue[] {
  const issues: FieldIssue[] = []
  for (const meter in json.meters) {
    if (!FIELD_METERS.has(meter)) continue
    const field = json[meter as 'input_tokens']
    if (field === undefined || field === json.meters[meter]) continue
    issues.push({ path: `meters.${meter}`, message: `is not what the field ${meter} says` })
  }
  return issues
}

function contradictions(event: UsageEvent, nowMs: number): FieldIssue[] {
  const issues: FieldIssue[] = []
  if (event.tsMs < TS_MIN_MS)
    issues.push({ path: 'ts', message: 'lies before 2020-01-01, is the unit right?' })
  if (event.tsMs > nowMs + TS_AHEAD_MAX_MS)
    issues.push({ path: 'ts', message: 'lies more than 24 hours in the future' })
  for (const { meter, message } of findContradictions(event.quantities)) {
    issues.push({ path: FIELD_METERS.has(meter) ? meter : `meters.${meter}`, message })
  }
  let hasTokens = false
  let hasUsage = false
  for (const meter in event.quantities) {
    if ((event.quantities[meter] ?? 0) <= 0) continue
    hasUsage = true
    if (!meter.endsWith('_tokens')) continue
    hasTokens = true
    if (!Number.isInteger(event.quantities[meter])) {
      issues.push({ path: `meters.${meter}`, message: 'tokens are whole: must be an integer' })
    }
  }
  // A failed attempt has nothing billable and is still worth keeping: retries cost time and explain bills.
  if (!hasUsage && event.status !== 'error') {
    issues.push({
      path: 'input_tokens',
      message: 'at least one meter above zero is required (a token count, or one under meters)',
    })
  }
  if (hasTokens && event.model === undefined)
    issues.push({ path: 'model', message: 'is required for token meters' })
  return issues
}

/**
 * Tells a repeat from another event under the same id: SHA-256 of the normalized content, each text with its
 * length before it, so that no two contents read alike. A time that the server filled in is left out, because
 * a repeat is received later.
 */
function contentHash(event: UsageEvent, isTsGiven: boolean): Buffer {
  let content = isTsGiven ? String(event.tsMs) : ''
  for (const field of CONTENT_FIELDS) content += canonical(event[field])
  content += canonical(event.quantities) + canonical(event.tags) + canonical(event.host)
  for (const field of LATER_CONTENT_FIELDS) {
    const value = event[field]
    if (value !== undefined) content += `|${field}${canonical(value)}`
  }
  return hash('sha256', content, 'buffer')
}

/** The other fields, in an order that must stay. */
const CONTENT_FIELDS = [
  'customer',
  'user',
  'team',
  'project',
  'businessUnit',
  'costCenter',
  'feature',
  'conversation',
  'agent',
  'environment',
  'provider',
  'model',
  'responseModel',
  'operation',
  'serviceTier',
  'region',
  'latencyMs',
  'timeToFirstTokenMs',
  'status',
  'streamed',
  'estimated',
  'providerRequestId',
  'traceId',
  'spanId',
  'promptHash',
  'attempt',
  'callId',
] as const satisfies readonly (keyof UsageEvent)[]

/** Fields that came later: named, and left out where they are absent, so that the hashes before them stay. */
const LATER_CONTENT_FIELDS = [
  'reason',
  'mismatch',
  'vendorUsage',
  'reportedCostUsd',
  'tokenizer',
  'counted',
] as const satisfies readonly (keyof UsageEvent)[]

type Content = string | number | boolean | undefined | { readonly [key: string]: Content }

function canonical(value: Content): string {
  if (value === undefined) return '|'
  if (typeof value === 'string') return `|${value.length}:${value}`
  if (typeof value !== 'object') return `|${value}`
  let content = '|{'
  for (const key of Object.keys(value).sort()) content += canonical(key) + canonical(value[key])
  return `${content}}`
}

function eventIdOf(input: unknown): string | undefined {
  if (typeof input !== 'object' || input === null || !('event_id' in input)) return undefined
  return typeof input.event_id === 'string' ? input.event_id.slice(0, 256) : undefined
}

function fieldIssues(issue: z.core.$ZodIssue): FieldIssue[] {
  const path = issue.path.join('.')
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      path: path === '' ? key : `${path}.${key}`,
      message: 'is not a known field',
    }))
  }
  return [{ path, message: issue.message }]
}

type Defined<T> = { [K in keyof T]?: Exclude<T[K], undefined> }

/** Leaves out what is undefined, for types where absent and undefined are different things. */
function defined<T extends object>(fields: T): Defined<T> {
  const result: Defined<T> = {}
  for (const key in fields) {
    const value = fields[key]
    if (value !== undefined) result[key] = value as Exclude<T[typeof key], undefined>
  }
  return result
}

import { catalogueProvider } from '../pricing/provider-aliases.ts'
import type { UsageEvent, UsageEventJson } from './usage-event.ts'

/**
 * Usage events as span attributes, and spans as usage events.
 *
 * Names are those of the OpenTelemetry GenAI semantic conventions
 * (github.com/open-telemetry/semantic-conventions-genai, read 2026-11); what they lack stands under
 * `tokentally.`. Reading accepts every generation of the conventions. Attributes that hold prompts or answers
 * are never read.
 */

/** A span's attributes, flat: arrays and nested values are left out, nothing here needs them. */
export type SpanAttributes = Readonly<Record<string, string | number | boolean>>

/** What of a span matters here. */
export interface SpanView {
  /** 32 and 16 lower-case hex digits. */
  readonly traceId: string
  readonly spanId: string
  readonly startTimeMs: number
  readonly endTimeMs: number
  /** The span's own attributes, over those of its resource. */
  readonly attributes: SpanAttributes
  readonly isError: boolean
}

const METER_PREFIX = 'tokentally.meter.'
const TAG_PREFIX = 'tokentally.tag.'

/** Fields with one attribute each: ours first, then the conventions' names, newest first. */
const TEXT_FIELDS = {
  customer_id: ['tokentally.customer_id'],
  user_id: ['tokentally.user_id', 'user.id', 'enduser.id'],
  team_id: ['tokentally.team_id'],
  project_id: ['tokentally.project_id'],
  business_unit: ['tokentally.business_unit'],
  cost_center: ['tokentally.cost_center'],
  feature: ['tokentally.feature'],
  conversation_id: ['gen_ai.conversation.id'],
  agent: ['gen_ai.agent.name'],
  environment: ['tokentally.environment', 'deployment.environment.name', 'deployment.environment'],
  provider: ['gen_ai.provider.name', 'gen_ai.system'],
  model: ['gen_ai.request.model'],
  response_model: ['gen_ai.response.model'],
  operation: ['gen_ai.operation.name', 'llm.request.type'],
  service_tier: [
    'tokentally.service_tier',
    'openai.response.service_tier',
    'gen_ai.openai.response.service_tier',
    'anthropic.response.service_tier',
  ],
  region: ['tokentally.region', 'cloud.region'],
  provider_request_id: ['tokentally.provider_request_id', 'gen_ai.response.id'],
  prompt_hash: ['tokentally.prompt_hash'],
  reason: ['tokentally.reason'],
  mismatch: ['tokentally.mismatch'],
  reported_cost_usd: ['tokentally.reported_cost_usd'],
  tokenizer: ['tokentally.tokenizer'],
  call_id: ['tokentally.call_id'],
} as const satisfies Partial<Record<keyof UsageEventJson, readonly string[]>>

const TOKEN_FIELDS = {
  input_tokens: ['gen_ai.usage.input_tokens', 'gen_ai.usage.prompt_tokens'],
  cache_read_tokens: ['gen_ai.usage.cache_read.input_tokens', 'gen_ai.usage.cache_read_input_tokens'],
  cache_write_tokens: [
    'gen_ai.usage.cache_write.input_tokens',
    'gen_ai.usage.cache_creation.input_tokens',
    'gen_ai.usage.cache_creation_input_tokens',
  ],
  output_tokens: ['gen_ai.usage.output_tokens', 'gen_ai.usage.completion_tokens'],
  reasoning_tokens: ['gen_ai.usage.reasoning.output_tokens'],
} as const satisfies Partial<Record<keyof UsageEventJson, readonly string[]>>

/** Where each token count of an event is written. */
const TOKEN_ATTRIBUTES: ReadonlyMap<string, string> = new Map(
  entriesOf(TOKEN_FIELDS).map(([field, [name = field]]) => [field, name]),
)

/** Meters that the conventions name too. */
const METER_FIELDS: Readonly<Record<string, readonly string[]>> = {
  audio_input_tokens: ['gen_ai.usage.audio.input_tokens'],
  image_input_tokens: ['gen_ai.usage.image.input_tokens'],
  audio_output_tokens: ['gen_ai.usage.audio.output_tokens'],
  image_output_tokens: ['gen_ai.usage.image.output_tokens'],
  cache_write_1h_tokens: ['anthropic.usage.cache_creation.ephemeral_1h_input_tokens'],
}

/**
 * Operations whose usage is another span's: agents and workflows sum up their calls, tools have none, and a
 * fetched response was counted when it was made.
 */
const NOT_BILLED: ReadonlySet<string> = new Set([
  'invoke_agent',
  'create_agent',
  'execute_tool',
  'invoke_workflow',
  'plan',
  'fetch_response',
])

/** The event as span attributes; `usageEventJsonFromSpan` reads the same event back. */
export function usageEventToAttributes(event: UsageEvent): Record<string, string | number | boolean> {
  const attributes: Record<string, string | number | boolean> = {}
  forEachAttribute(event, (name, value) => {
    attributes[name] = value
  })
  return attributes
}

type Visit = (name: string, value: string | number | boolean) => void

/** Visits the event's span attributes, for who needs no object of them. */
export function forEachAttribute(event: UsageEvent, visit: Visit): void {
  forEachCommonAttribute(event, visit)
  forEachOwnAttribute(event, visit)
}

const COMMON_FIELDS = [
  'status',
  'estimated',
  'streamed',
  'team',
  'project',
  'businessUnit',
  'costCenter',
  'feature',
  'agent',
  'environment',
  'provider',
  'model',
  'responseModel',
  'operation',
  'serviceTier',
  'region',
  'attempt',
  'host',
] as const satisfies readonly (keyof UsageEvent)[]

/** What of an event is mostly the same from call to call: the attributes that `forEachCommonAttribute` visits. */
export type CommonFields = Pick<UsageEvent, (typeof COMMON_FIELDS)[number]>

/**
 * The common fields alone, to be kept. Texts are copied: one that was cut out of a longer text, such as a request's,
 * keeps all of that in memory.
 */
export function commonFieldsOf(event: UsageEvent): CommonFields {
  const { host } = event
  const copy: CommonFields = JSON.parse(JSON.stringify(event, [...COMMON_FIELDS]))
  return host === undefined ? copy : { ...copy, host }
}

/** Whether two events have the same common attributes. */
export function hasSameCommonFields(one: CommonFields, other: CommonFields): boolean {
  // Written out: this is done for every event.
  return (
    one.status === other.status &&
    one.estimated === other.estimated &&
    one.streamed === other.streamed &&
    one.team === other.team &&
    one.project === other.project &&
    one.businessUnit === other.businessUnit &&
    one.costCenter === other.costCenter &&
    one.feature === other.feature &&
    one.agent === other.agent &&
    one.environment === other.environment &&
    one.provider === other.provider &&
    one.model === other.model &&
    one.responseModel === other.responseModel &&
    one.operation === other.operation &&
    one.serviceTier === other.serviceTier &&
    one.region === other.region &&
    one.attempt === other.attempt &&
    one.host === other.host
  )
}

/** Visits those attributes that are mostly the same from call to call. */
export function forEachCommonAttribute(event: CommonFields, visit: Visit): void {
  const visitDefined = (name: string, value: string | number | boolean | undefined) => {
    if (value !== undefined) visit(name, value)
  }
  visit('tokentally.status', event.status)
  visit('tokentally.estimated', event.estimated)
  visit('gen_ai.request.stream', event.streamed)
  visitDefined(TEXT_FIELDS.team_id[0], event.team)
  visitDefined(TEXT_FIELDS.project_id[0], event.project)
  visitDefined(TEXT_FIELDS.business_unit[0], event.businessUnit)
  visitDefined(TEXT_FIELDS.cost_center[0], event.costCenter)
  visitDefined(TEXT_FIELDS.feature[0], event.feature)
  visitDefined(TEXT_FIELDS.agent[0], event.agent)
  visitDefined(TEXT_FIELDS.environment[0], event.environment)
  visitDefined(TEXT_FIELDS.provider[0], event.provider)
  visitDefined(TEXT_FIELDS.model[0], event.model)
  visitDefined(TEXT_FIELDS.response_model[0], event.responseModel)
  visitDefined(TEXT_FIELDS.operation[0], event.operation)
  visitDefined(TEXT_FIELDS.service_tier[0], event.serviceTier)
  visitDefined(TEXT_FIELDS.region[0], event.region)
  visitDefined('tokentally.attempt', event.attempt)
  if (event.host !== undefined) visit('tokentally.host', JSON.stringify(event.host))
  if (event.status === 'error') visit('error.type', '_OTHER')
}

/** Visits the other attributes. */
export function forEachOwnAttribute(event: UsageEvent, visit: Visit): void {
  const { customer, user, conversation, providerRequestId, promptHash, callId, reason, mismatch } = event
  const { reportedCostUsd, tokenizer, counted, quantities, tags, latencyMs, timeToFirstTokenMs } = event
  const { traceId, spanId, vendorUsage } = event
  visit('tokentally.event_id', event.eventId)
  visit('tokentally.ts', isoTime(event.tsMs))
  if (customer !== undefined) visit(TEXT_FIELDS.customer_id[0], customer)
  if (user !== undefined) visit(TEXT_FIELDS.user_id[0], user)
  if (conversation !== undefined) visit(TEXT_FIELDS.conversation_id[0], conversation)
  if (providerRequestId !== undefined) visit(TEXT_FIELDS.provider_request_id[0], providerRequestId)
  if (promptHash !== undefined) visit(TEXT_FIELDS.prompt_hash[0], promptHash)
  if (callId !== undefined) visit(TEXT_FIELDS.call_id[0], callId)
  if (reason !== undefined) visit(TEXT_FIELDS.reason[0], reason)
  if (mismatch !== undefined) visit(TEXT_FIELDS.mismatch[0], mismatch)
  if (reportedCostUsd !== undefined) visit(TEXT_FIELDS.reported_cost_usd[0], reportedCostUsd)
  if (tokenizer !== undefined) visit(TEXT_FIELDS.tokenizer[0], tokenizer)
  if (counted?.inputTokens !== undefined) visit('tokentally.counted_input_tokens', counted.inputTokens)
  if (counted?.outputTokens !== undefined) visit('tokentally.counted_output_tokens', counted.outputTokens)
  for (const meter in quantities) {
    visit(TOKEN_ATTRIBUTES.get(meter) ?? METER_PREFIX + meter, quantities[meter] ?? 0)
  }
  if (tags !== undefined) for (const tag in tags) visit(TAG_PREFIX + tag, tags[tag] ?? '')
  if (latencyMs !== undefined) visit('tokentally.latency_ms', latencyMs)
  if (timeToFirstTokenMs !== undefined) visit('tokentally.time_to_first_token_ms', timeToFirstTokenMs)
  if (traceId !== undefined) visit('tokentally.trace_id', traceId)
  if (spanId !== undefined) visit('tokentally.span_id', spanId)
  if (vendorUsage !== undefined) visit('tokentally.vendor_usage', JSON.stringify(vendorUsage))
  if (timeToFirstTokenMs !== undefined) {
    visit('gen_ai.response.time_to_first_chunk', timeToFirstTokenMs / 1000)
  }
}

let isoSecond = Number.NaN
let isoBeginning = ''

/** As `toISOString`, which takes long: most events are of the same second as the one before. */
function isoTime(ms: number): string {
  const second = Math.floor(ms / 1000)
  if (second !== isoSecond) {
    isoBeginning = new Date(second * 1000).toISOString().slice(0, -'000Z'.length)
    isoSecond = second
  }
  return `${isoBeginning}${String(Math.floor(ms - second * 1000)).padStart(3, '0')}Z`
}

/**
 * The usage event that a span describes, still to be checked by `parseUsageEvent`.
 *
 * Where the span has no event id of ours, trace and span id make one, so that a span which is exported twice
 * counts once.
 *
 * @returns undefined when the span describes no usage of its own
 */
export function usageEventJsonFromSpan(span: SpanView): Record<string, unknown> | undefined {
  const { attributes } = span
  const isOurs = typeof attributes['tokentally.event_id'] === 'string'
  if (!isOurs && !hasGenAiAttribute(attributes)) return undefined
  const operation = firstOf(attributes, TEXT_FIELDS.operation)
  if (!isOurs && typeof operation === 'string' && NOT_BILLED.has(operation)) return undefined

  const json: Record<string, unknown> = {}
  for (const [field, names] of entriesOf(TEXT_FIELDS)) {
    const value = firstOf(attributes, isOurs ? names.slice(0, 1) : names)
    if (value !== undefined) json[field] = String(value)
  }
  // `cloud.region` is where the app runs. At Google it reads like the region of an endpoint, which has a price.
  if (
    attributes[TEXT_FIELDS.region[0]] === undefined &&
    catalogueProvider(String(json['provider'] ?? '')) === 'google'
  ) {
    delete json['region']
  }
  for (const [field, names] of entriesOf(TOKEN_FIELDS)) {
    const value = firstOf(attributes, isOurs ? names.slice(0, 1) : names)
    if (value !== undefined) json[field] = asNumber(value)
  }
  const meters: Record<string, unknown> = {}
  const tags: Record<string, string> = {}
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith(METER_PREFIX)) meters[name.slice(METER_PREFIX.length)] = asNumber(value)
    else if (name.startsWith(TAG_PREFIX)) tags[name.slice(TAG_PREFIX.length)] = String(value)
  }
  if (!isOurs) {
    for (const [meter, names] of Object.entries(METER_FIELDS)) {
      const value = firstOf(attributes, names)
      if (value !== undefined && value !== 0) meters[meter] ??= asNumber(value)
    }
  }
  if (Object.keys(meters).length > 0) json['meters'] = meters
  if (Object.keys(tags).length > 0) json['tags'] = tags
  if (attributes['gen_ai.request.stream'] !== undefined)
    json['streamed'] = attributes['gen_ai.request.stream']

  return isOurs ? ourFields(json, attributes) : foreignFields(json, span)
}

function ourFields(json: Record<string, unknown>, attributes: SpanAttributes): Record<string, unknown> {
  json['event_id'] = attributes['tokentally.event_id']
  for (const field of [
    'ts',
    'status',
    'estimated',
    'latency_ms',
    'time_to_first_token_ms',
    'attempt',
    'trace_id',
    'span_id',
    'counted_input_tokens',
    'counted_output_tokens',
  ]) {
    const value = attributes[`tokentally.${field}`]
    if (value !== undefined) json[field] = value
  }
  const host = attributes['tokentally.host']
  if (typeof host === 'string') json['host'] = parsedOrText(host)
  const vendorUsage = attributes['tokentally.vendor_usage']
  if (typeof vendorUsage === 'string') json['vendor_usage'] = parsedOrText(vendorUsage)
  return json
}

function foreignFields(json: Record<string, unknown>, span: SpanView): Record<string, unknown> | undefined {
  const isFailed = span.isError || span.attributes['error.type'] !== undefined
  const hasUsage =
    Object.keys(TOKEN_FIELDS).some((field) => isReported(json[field])) || json['meters'] !== undefined
  if (!hasUsage && !isFailed) return undefined
  json['event_id'] = `otel-${span.traceId}-${span.spanId}`
  json['ts'] = new Date(span.startTimeMs).toISOString()
  json['trace_id'] = span.traceId
  json['span_id'] = span.spanId
  json['status'] = isFailed ? (hasUsage ? 'aborted' : 'error') : 'ok'
  if (span.endTimeMs >= span.startTimeMs) json['latency_ms'] = span.endTimeMs - span.startTimeMs
  const firstChunkS = span.attributes['gen_ai.response.time_to_first_chunk']
  if (typeof firstChunkS === 'number' && firstChunkS >= 0) json['time_to_first_token_ms'] = firstChunkS * 1000
  json['model'] ??= json['response_model']
  if (json['model'] === undefined) delete json['model']
  countCacheInside(json)
  return json
}

/**
 * The conventions count cached tokens inside the input. Some instrumentations of Anthropic report them beside
 * it: then the parts exceed the whole, and adding them is the only reading that makes sense. Without any input
 * count, the uncached input is unknown: the event says `estimated`.
 */
function countCacheInside(json: Record<string, unknown>): void {
  const cached = numberOrZero(json['cache_read_tokens']) + numberOrZero(json['cache_write_tokens'])
  if (cached === 0) return
  const input = json['input_tokens']
  if (input === undefined) {
    json['input_tokens'] = cached
    json['estimated'] = true
  } else if (typeof input === 'number' && input < cached) {
    json['input_tokens'] = input + cached
  }
}

function hasGenAiAttribute(attributes: SpanAttributes): boolean {
  for (const name in attributes) if (name.startsWith('gen_ai.')) return true
  return false
}

function firstOf(
  attributes: SpanAttributes,
  names: readonly string[],
): string | number | boolean | undefined {
  for (const name of names) {
    const value = attributes[name]
    if (value !== undefined && value !== '') return value
  }
  return undefined
}

/** Some exporters send counts as text; what is no number stays as it is, for the check to name. */
function asNumber(value: string | number | boolean): string | number | boolean {
  return typeof value === 'string' && /^\d+(\.\d+)?$/.test(value) ? Number(value) : value
}

function numberOrZero(value: unknown): number {
  return typeof value === 'number' ? value : 0
}

/** A count below zero is refused by name later on, not passed over. */
function isReported(value: unknown): boolean {
  return value !== undefined && value !== 0
}

function parsedOrText(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function entriesOf<Fields extends Readonly<Record<string, readonly string[]>>>(
  fields: Fields,
): readonly (readonly [keyof Fields & string, readonly string[]])[] {
  return Object.keys(fields).map((field) => [field, fields[field] ?? []])
}

import { type UsageEvent, usageEventToAttributes } from '@tokentally/core'

/**
 * An export request of JSON-encoded spans. The service reads the events from their attributes; any
 * OpenTelemetry Collector in between sees ordinary GenAI spans.
 *
 * @param spans as `spanJson` makes them
 */
export function otlpRequest(spans: readonly string[], version: string): string {
  const resource = `{"attributes":${attributesJson({ 'service.name': 'tokentally-meter' })}}`
  const scope = JSON.stringify({ name: '@tokentally/meter', version })
  return `{"resourceSpans":[{"resource":${resource},"scopeSpans":[{"scope":${scope},"spans":[${spans.join(',')}]}]}]}`
}

/**
 * The event as a JSON-encoded span. Written as text at once: it is made for each event while the application
 * waits for its answer.
 */
export function spanJson(event: UsageEvent): string {
  const startNanos = BigInt(event.tsMs) * 1_000_000n
  const endNanos = startNanos + BigInt(Math.round((event.latencyMs ?? 0) * 1_000_000))
  const ids = hexOf(event.eventId)
  const traceId = event.traceId ?? ids.padStart(32, '0').slice(-32)
  const spanId = event.spanId ?? ids.slice(-16).padStart(16, '1')
  const name = JSON.stringify(`${event.operation} ${event.model ?? ''}`.trim())
  const status = event.status === 'error' ? '{"code":2}' : '{}'
  // SPAN_KIND_CLIENT is 3.
  return `{"traceId":"${traceId}","spanId":"${spanId}","name":${name},"kind":3,"startTimeUnixNano":"${startNanos}","endTimeUnixNano":"${endNanos}","attributes":${attributesJson(usageEventToAttributes(event))},"status":${status}}`
}

/** Span ids for events without any: the digits of the event id, which is random enough. */
function hexOf(eventId: string): string {
  const hex = eventId.replace(/[^0-9a-f]/g, '')
  return hex.length >= 16 ? hex : Buffer.from(eventId).toString('hex').slice(0, 32)
}

/** Attributes in OTLP's JSON encoding (OTLP specification 1.x, "JSON Protobuf Encoding"). */
function attributesJson(attributes: Readonly<Record<string, string | number | boolean>>): string {
  let json = ''
  for (const key in attributes) {
    const value = attributes[key]
    if (value === undefined) continue
    json += `${json === '' ? '[' : ','}{"key":${JSON.stringify(key)},"value":${anyValueJson(value)}}`
  }
  return json === '' ? '[]' : `${json}]`
}

function anyValueJson(value: string | number | boolean): string {
  if (typeof value === 'string') return `{"stringValue":${JSON.stringify(value)}}`
  if (typeof value === 'boolean') return `{"boolValue":${value}}`
  return Number.isSafeInteger(value) ? `{"intValue":"${value}"}` : `{"doubleValue":${value}}`
}

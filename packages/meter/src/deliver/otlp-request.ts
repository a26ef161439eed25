import { forEachAttribute, type UsageEvent } from '@tokentally/core'

/**
 * An export request of JSON-encoded spans. The service reads the events from their attributes; any
 * OpenTelemetry Collector in between sees ordinary GenAI spans.
 *
 * @param spans as `spanJson` makes them
 */
export function otlpRequest(spans: readonly string[], version: string): string {
  const resource = `{"attributes":[${keyJson('service.name')}${anyValueJson('tokentally-meter')}}]}`
  const scope = JSON.stringify({ name: '@tokentally/meter', version })
  return `{"resourceSpans":[{"resource":${resource},"scopeSpans":[{"scope":${scope},"spans":[${spans.join(',')}]}]}]}`
}

/** The event as a JSON-encoded span, written as text at once. */
export function spanJson(event: UsageEvent): string {
  const { eventId, tsMs, latencyMs = 0 } = event
  const ids = isUuid(eventId) ? eventId.replaceAll('-', '') : Buffer.from(eventId).toString('hex')
  const traceId = event.traceId ?? ids.padStart(32, '0').slice(-32)
  const spanId = event.spanId ?? ids.slice(-16).padStart(16, '1')
  const name = JSON.stringify(
    event.model === undefined ? event.operation : `${event.operation} ${event.model}`,
  )
  const endMicros = tsMs * 1000 + Math.round(latencyMs * 1000)
  const status = event.status === 'error' ? '{"code":2}' : '{}'
  let attributes = ''
  forEachAttribute(event, (key, value) => {
    attributes += `${attributes === '' ? '' : ','}${keyJson(key)}${anyValueJson(value)}}`
  })
  // SPAN_KIND_CLIENT is 3. Times are nanoseconds.
  return `{"traceId":"${traceId}","spanId":"${spanId}","name":${name},"kind":3,"startTimeUnixNano":"${tsMs}000000","endTimeUnixNano":"${endMicros}000","attributes":[${attributes}],"status":${status}}`
}

function isUuid(text: string): boolean {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text)
}

/** Beginnings of attributes (OTLP specification 1.x, "JSON Protobuf Encoding") by their names. */
const keys = new Map<string, string>()
const KEYS_MAX = 1_000

function keyJson(key: string): string {
  let json = keys.get(key)
  if (json === undefined) {
    json = `{"key":${JSON.stringify(key)},"value":`
    if (keys.size < KEYS_MAX) keys.set(key, json)
  }
  return json
}

function anyValueJson(value: string | number | boolean): string {
  if (typeof value === 'string') return `{"stringValue":${JSON.stringify(value)}}`
  if (typeof value === 'boolean') return `{"boolValue":${value}}`
  return Number.isSafeInteger(value) ? `{"intValue":"${value}"}` : `{"doubleValue":${value}}`
}

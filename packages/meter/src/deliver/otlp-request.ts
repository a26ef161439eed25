import { parseUsageEvent, type UsageEvent, usageEventToAttributes } from '@tokentally/core'
import type { SpooledEvent } from '../spool/spool-file.ts'

/** An OTLP attribute in the JSON encoding (OTLP specification 1.x, "JSON Protobuf Encoding"). */
interface KeyValue {
  readonly key: string
  readonly value: Readonly<Record<string, string | number | boolean>>
}

/**
 * An export request of one span per event, JSON-encoded. The service reads the event from the attributes; any
 * OpenTelemetry Collector in between sees ordinary GenAI spans.
 */
export function otlpRequest(events: readonly SpooledEvent[], version: string): string {
  const spans = events.flatMap((spooled) => {
    const parsed = read(spooled)
    return parsed.ok ? [spanOf(parsed.event)] : []
  })
  return JSON.stringify({
    resourceSpans: [
      {
        resource: { attributes: attributesOf({ 'service.name': 'tokentally-meter' }) },
        scopeSpans: [{ scope: { name: '@tokentally/meter', version }, spans }],
      },
    ],
  })
}

/** Why an event cannot be sent; undefined when it can. */
export function unreadable(spooled: SpooledEvent): string | undefined {
  const parsed = read(spooled)
  return parsed.ok ? undefined : parsed.issues.map(({ path, message }) => `${path} ${message}`).join('; ')
}

function read({ json }: SpooledEvent) {
  return parseUsageEvent(JSON.parse(json), RECEIPT)
}

/** Times are the service's to judge. */
const RECEIPT = { nowMs: Number.MAX_SAFE_INTEGER, newEventId: () => '' }

function spanOf(event: UsageEvent) {
  const startNanos = BigInt(event.tsMs) * 1_000_000n
  const endNanos = startNanos + BigInt(Math.round((event.latencyMs ?? 0) * 1_000_000))
  const ids = hexOf(event.eventId)
  return {
    traceId: event.traceId ?? ids.padStart(32, '0').slice(-32),
    spanId: event.spanId ?? ids.slice(-16).padStart(16, '1'),
    name: `${event.operation} ${event.model ?? ''}`.trim(),
    // SPAN_KIND_CLIENT
    kind: 3,
    startTimeUnixNano: startNanos.toString(),
    endTimeUnixNano: endNanos.toString(),
    attributes: attributesOf(usageEventToAttributes(event)),
    status: event.status === 'error' ? { code: 2 } : {},
  }
}

/** Span ids for events without any: the digits of the event id, which is random enough. */
function hexOf(eventId: string): string {
  const hex = eventId.replace(/[^0-9a-f]/g, '')
  return hex.length >= 16 ? hex : Buffer.from(eventId).toString('hex').slice(0, 32)
}

function attributesOf(attributes: Readonly<Record<string, string | number | boolean>>): KeyValue[] {
  return Object.entries(attributes).map(([key, value]) => ({ key, value: anyValue(value) }))
}

function anyValue(value: string | number | boolean): KeyValue['value'] {
  if (typeof value === 'string') return { stringValue: value }
  if (typeof value === 'boolean') return { boolValue: value }
  return Number.isSafeInteger(value) ? { intValue: String(value) } : { doubleValue: value }
}

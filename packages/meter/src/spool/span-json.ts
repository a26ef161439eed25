import {
  type CommonFields,
  commonFieldsOf,
  forEachCommonAttribute,
  forEachOwnAttribute,
  hasSameCommonFields,
  type UsageEvent,
} from '@tokentally/core'

const BEGINNING = '{"traceId":"'
const BEGINNING_BYTES = Buffer.from(BEGINNING)
const CLOSING_BRACE = 0x7d

/**
 * The event as a JSON-encoded span (OTLP specification 1.x, "JSON Protobuf Encoding"), written as text at once: this
 * is done while the application waits for its answer.
 */
export function spanJson(event: UsageEvent): string {
  const { eventId, tsMs, latencyMs = 0 } = event
  const ids = UUID.test(eventId) ? withoutDashes(eventId) : Buffer.from(eventId).toString('hex')
  const traceId = event.traceId ?? ids.padStart(32, '0').slice(-32)
  const spanId = event.spanId ?? ids.slice(-16).padStart(16, '1')
  const endMicros = tsMs * 1000 + Math.round(latencyMs * 1000)
  const { name, attributes, status } = commonOf(event)
  let own = ''
  forEachOwnAttribute(event, (key, value) => {
    own += `,${beginningOf(key)}${anyValueJson(value)}}`
  })
  // SPAN_KIND_CLIENT is 3. Times are nanoseconds.
  return `${BEGINNING}${traceId}","spanId":"${spanId}",${name},"startTimeUnixNano":"${tsMs}000000","endTimeUnixNano":"${endMicros}000","attributes":[${attributes}${own}],"status":${status}}`
}

/** Whether a line is whole and of `spanJson`, as far as its two ends tell: the service reads what is between. */
export function isSpanJson(line: Uint8Array): boolean {
  return line.at(-1) === CLOSING_BRACE && BEGINNING_BYTES.equals(line.subarray(0, BEGINNING_BYTES.length))
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

function withoutDashes(uuid: string): string {
  return uuid.slice(0, 8) + uuid.slice(9, 13) + uuid.slice(14, 18) + uuid.slice(19, 23) + uuid.slice(24)
}

/** What events have in common, as JSON. */
interface Common {
  readonly fields: CommonFields
  readonly name: string
  readonly attributes: string
  readonly status: string
}

/** The last ones, newest first: an application makes few kinds of calls. */
const recent: Common[] = []
const RECENT_MAX = 16

function commonOf(event: UsageEvent): Common {
  for (let index = 0; index < recent.length; index++) {
    const common = recent[index]
    if (common !== undefined && hasSameCommonFields(common.fields, event)) return common
  }
  const { operation, model } = event
  const attributes: string[] = []
  forEachCommonAttribute(event, (key, value) => attributes.push(`${beginningOf(key)}${anyValueJson(value)}}`))
  const common = {
    fields: commonFieldsOf(event),
    name: `"name":${JSON.stringify(model === undefined ? operation : `${operation} ${model}`)},"kind":3`,
    attributes: attributes.join(','),
    status: event.status === 'error' ? '{"code":2}' : '{}',
  }
  recent.unshift(common)
  if (recent.length > RECENT_MAX) recent.pop()
  return common
}

/** Beginnings of attributes by their names. */
const beginnings = new Map<string, string>()
/** Tags and meters have names of others' choice. */
const BEGINNINGS_MAX = 1_000

function beginningOf(key: string): string {
  let beginning = beginnings.get(key)
  if (beginning === undefined) {
    beginning = `{"key":${JSON.stringify(key)},"value":`
    if (beginnings.size < BEGINNINGS_MAX) beginnings.set(key, beginning)
  }
  return beginning
}

/** Text that stands in JSON as it is. */
const PLAIN_TEXT = /^[ !#-[\]-~]*$/

function anyValueJson(value: string | number | boolean): string {
  if (typeof value === 'string') {
    return PLAIN_TEXT.test(value) ? `{"stringValue":"${value}"}` : `{"stringValue":${JSON.stringify(value)}}`
  }
  if (typeof value === 'boolean') return `{"boolValue":${value}}`
  return Number.isSafeInteger(value) ? `{"intValue":"${value}"}` : `{"doubleValue":${value}}`
}

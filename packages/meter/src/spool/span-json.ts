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
  own = ''
  forEachOwnAttribute(event, addOwn)
  // SPAN_KIND_CLIENT is 3. Times are nanoseconds.
  return `${BEGINNING}${traceId}","spanId":"${spanId}",${name},"startTimeUnixNano":"${tsMs}000000","endTimeUnixNano":"${endMicros}000","attributes":[${attributes}${own}],"status":${status}}`
}

/** Whether a line is whole and of `spanJson`, as far as its two ends tell: the service reads what is between. */
export function isSpanJson(line: Uint8Array): boolean {
  return line.at(-1) === CLOSING_BRACE && BEGINNING_BYTES.equals(line.subarray(0, BEGINNING_BYTES.length))
}

/** The event's own attributes while they are being written. */
let own = ''

function addOwn(key: string, value: string | number | boolean): void {
  own += `,${attributeJson(key, value)}`
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
  forEachCommonAttribute(event, (key, value) => attributes.push(attributeJson(key, value)))
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

/** Beginnings of attributes by their names: up to a text, up to a whole number, up to another value. */
interface Beginnings {
  readonly text: string
  readonly whole: string
  readonly other: string
}

const beginnings = new Map<string, Beginnings>()
/** Tags and meters have names of others' choice. */
const BEGINNINGS_MAX = 1_000

function beginningsOf(key: string): Beginnings {
  let known = beginnings.get(key)
  if (known === undefined) {
    const other = `{"key":${JSON.stringify(key)},"value":{`
    known = { text: `${other}"stringValue":`, whole: `${other}"intValue":"`, other }
    if (beginnings.size < BEGINNINGS_MAX) beginnings.set(key, known)
  }
  return known
}

/** Text that stands in JSON as it is. */
const PLAIN_TEXT = /^[ !#-[\]-~]*$/

/** Few long pieces: each one costs, when they are put together and when the whole is written. */
function attributeJson(key: string, value: string | number | boolean): string {
  const { text, whole, other } = beginningsOf(key)
  if (typeof value === 'string') {
    return PLAIN_TEXT.test(value) ? `${text}"${value}"}}` : `${text}${JSON.stringify(value)}}}`
  }
  if (typeof value === 'boolean') return `${other}"boolValue":${value}}}`
  return Number.isSafeInteger(value) ? `${whole}${value}"}}` : `${other}"doubleValue":${value}}}`
}

import { isUtf8 } from 'node:buffer'
import { Problem } from '../http/problem.ts'
import { decodeUtf8 } from './request-body.ts'
import { Unreadable } from './unreadable.ts'

/** Events of one request at most. */
export const EVENTS_MAX = 10_000

/** What a usage request holds, before any event is looked at. */
export interface UsageBody {
  /** As sent; `Unreadable` where a line or a CloudEvent of several holds none. */
  readonly events: readonly unknown[]
  /** True for a body that is one event: its field paths then carry no index. */
  readonly isSingle: boolean
}

/**
 * Takes a usage request apart: one JSON event, an array, `{"events": […]}`, NDJSON, or CloudEvents (one, a
 * batch, or in binary mode with `ce-` headers; CloudEvents 1.0.2, HTTP binding and JSON format).
 *
 * @throws Problem `invalid-request` for what is no JSON, `content-too-large` for more than 10,000 events
 */
export function readUsageBody(
  body: Buffer,
  contentType: string,
  header: (name: string) => string | undefined,
): UsageBody {
  const text = decodeUtf8(body)
  const mediaType = contentType.split(';')[0]?.trim().toLowerCase() ?? ''
  const read = (): UsageBody => {
    switch (mediaType) {
      case 'application/x-ndjson':
      case 'application/ndjson':
      case 'application/jsonl':
      case 'application/x-jsonlines':
        return { events: readLines(text), isSingle: false }
      case 'application/cloudevents+json':
        return { events: [fromCloudEvent(readJson(text))], isSingle: true }
      case 'application/cloudevents-batch+json':
        return { events: arrayOf(readJson(text)).map(fromCloudEvent), isSingle: false }
      default:
        return header('ce-specversion') === undefined ? readPlain(text) : readBinaryCloudEvent(text, header)
    }
  }
  const usage = read()
  if (usage.events.length > EVENTS_MAX) {
    throw new Problem({
      code: 'content-too-large',
      detail: `A request holds ${EVENTS_MAX} events at most, this one has ${usage.events.length}; nothing was stored.`,
    })
  }
  return usage
}

function readPlain(text: string): UsageBody {
  const json = readJson(text)
  if (Array.isArray(json)) return { events: json, isSingle: false }
  if (isObject(json) && 'events' in json) {
    const others = Object.keys(json).filter((key) => key !== 'events')
    if (others.length > 0) {
      throw new Problem({
        code: 'invalid-request',
        errors: others.map((path) => ({ path, message: 'is not a known field beside events' })),
      })
    }
    if (!Array.isArray(json['events'])) throw invalid('events', 'must be an array')
    return { events: json['events'], isSingle: false }
  }
  return { events: [json], isSingle: true }
}

function readLines(text: string): unknown[] {
  return text
    .split('\n')
    .flatMap((line, index) => (line.trim() === '' ? [] : [parseJson(line, '', `line ${index + 1}`)]))
}

function readBinaryCloudEvent(text: string, header: (name: string) => string | undefined): UsageBody {
  const event = fromCloudEvent({
    specversion: header('ce-specversion'),
    id: header('ce-id'),
    time: header('ce-time'),
    data: readJson(text),
  })
  return { events: [event], isSingle: true }
}

/**
 * The usage event is the CloudEvent's `data`. Its `id` and `time` serve where the data has none of its own.
 */
function fromCloudEvent(cloudEvent: unknown): unknown {
  if (!isObject(cloudEvent)) return new Unreadable('', 'a CloudEvent is a JSON object')
  const version = cloudEvent['specversion']
  if (typeof version !== 'string' || !version.startsWith('1.'))
    return new Unreadable('specversion', 'must be 1.0')
  const data = readData(cloudEvent)
  if (data instanceof Unreadable) return data
  if (!isObject(data)) return new Unreadable('data', 'must be a usage event')
  const { id, time } = cloudEvent
  return {
    ...(typeof id === 'string' && { event_id: id }),
    ...(typeof time === 'string' && { ts: time }),
    ...data,
  }
}

function readData(cloudEvent: Readonly<Record<string, unknown>>): unknown {
  const encoded = cloudEvent['data_base64']
  if (typeof encoded !== 'string') return cloudEvent['data']
  const bytes = Buffer.from(encoded, 'base64')
  if (!isUtf8(bytes)) return new Unreadable('data_base64', 'does not encode valid UTF-8')
  return parseJson(bytes.toString(), 'data_base64', 'what it encodes')
}

function readJson(text: string): unknown {
  const json = parseJson(text, '', 'the body')
  if (!(json instanceof Unreadable)) return json
  throw new Problem({
    code: 'invalid-request',
    detail: `${json.issues.map(({ message }) => message).join()}; nothing was stored.`,
  })
}

/** @returns the value, or what is wrong */
function parseJson(text: string, path: string, what: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    // The parser's own message quotes the text; what a caller sent by mistake should not come back in an error.
    const position = error instanceof SyntaxError ? / at position \d+/.exec(error.message)?.[0] : undefined
    return new Unreadable(
      path,
      `${what} is not valid JSON${position === undefined ? '' : ` (${position.trim()})`}`,
    )
  }
}

function arrayOf(json: unknown): readonly unknown[] {
  if (!Array.isArray(json)) throw invalid('', 'a batch is a JSON array')
  return json
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function invalid(path: string, message: string): Problem {
  return new Problem({ code: 'invalid-request', errors: [{ path, message }] })
}

import type { SpanAttributes, SpanView } from '@tokentally/core'
import { z } from 'zod'
import { Problem } from '../../http/problem.ts'
import { decodeUtf8 } from '../request-body.ts'
import { exportTraceRequest } from './trace-schema.ts'

/** The two encodings of OTLP/HTTP (OTLP specification 1.x, section "OTLP/HTTP"). */
export type OtlpEncoding = 'protobuf' | 'json'

/** Spans of one request at most. */
export const SPANS_MAX = 10_000

// Shared by both encodings: protobufjs decodes to the same names, with longs as text and ids as hex. Unknown
// fields are ignored, as the specification asks.
const long = z.union([z.string().regex(/^-?\d{1,20}$/, 'must be a whole number of 64 bits'), z.number()])
const anyValue = z.object({
  stringValue: z.string().nullish(),
  boolValue: z.boolean().nullish(),
  intValue: long.nullish(),
  doubleValue: z.union([z.number(), z.string()]).nullish(),
})
// What has its default value, such as an empty key, is left out on the wire.
const attributes = z.array(z.object({ key: z.string().nullish(), value: anyValue.nullish() })).nullish()
// Whether an id is right is for the check of the event it belongs to: a span that is ignored may have any, and one
// that is refused costs its neighbours nothing.
const hexId = z
  .string()
  .nullish()
  .transform((id) => (id ?? '').toLowerCase())
const requestSchema = z.object({
  resourceSpans: z
    .array(
      z.object({
        resource: z.object({ attributes }).nullish(),
        scopeSpans: z
          .array(
            z.object({
              spans: z
                .array(
                  z.object({
                    traceId: hexId,
                    spanId: hexId,
                    startTimeUnixNano: long.nullish(),
                    endTimeUnixNano: long.nullish(),
                    attributes,
                    status: z.object({ code: z.union([z.number(), z.string()]).nullish() }).nullish(),
                  }),
                )
                .nullish(),
            }),
          )
          .nullish(),
      }),
    )
    .nullish(),
})

/**
 * Reads the spans of an OTLP export request.
 *
 * @throws Problem `invalid-request` when the body is no such request, `content-too-large` for too many spans
 */
export function readSpans(body: Buffer, encoding: OtlpEncoding): readonly SpanView[] {
  const parsed = requestSchema.safeParse(encoding === 'json' ? decodeJson(body) : decodeProtobuf(body))
  if (!parsed.success) {
    throw new Problem({
      code: 'invalid-request',
      detail: 'The body is no OTLP trace export request.',
      errors: parsed.error.issues.map((issue) => ({ path: issue.path.join('.'), message: issue.message })),
    })
  }
  const spans: SpanView[] = []
  for (const { resource, scopeSpans } of parsed.data.resourceSpans ?? []) {
    const resourceAttributes = flat(resource?.attributes, {})
    for (const scope of scopeSpans ?? []) {
      for (const span of scope.spans ?? []) {
        spans.push({
          traceId: span.traceId,
          spanId: span.spanId,
          startTimeMs: millisecondsOf(span.startTimeUnixNano),
          endTimeMs: millisecondsOf(span.endTimeUnixNano),
          attributes: flat(span.attributes, resourceAttributes),
          isError: span.status?.code === 2 || span.status?.code === 'STATUS_CODE_ERROR',
        })
      }
    }
  }
  if (spans.length > SPANS_MAX) {
    throw new Problem({
      code: 'content-too-large',
      detail: `A request holds ${SPANS_MAX} spans at most, this one has ${spans.length}.`,
    })
  }
  return spans
}

function decodeJson(body: Buffer): unknown {
  try {
    return JSON.parse(decodeUtf8(body))
  } catch (cause) {
    if (cause instanceof Problem) throw cause
    throw new Problem({ code: 'invalid-request', detail: 'The body is not valid JSON.', cause })
  }
}

function decodeProtobuf(body: Buffer): unknown {
  try {
    const message = exportTraceRequest.decode(body)
    const request = exportTraceRequest.toObject(message, { longs: String, bytes: Buffer })
    return hexIds(request)
  } catch (cause) {
    throw new Problem({ code: 'invalid-request', detail: 'The body is not a valid protobuf message.', cause })
  }
}

/** Protobuf carries ids as bytes, JSON as hex; the rest of the program knows hex only. */
function hexIds(request: Readonly<Record<string, unknown>>): unknown {
  for (const resource of listOf(request, 'resourceSpans')) {
    for (const scope of listOf(resource, 'scopeSpans')) {
      for (const span of listOf(scope, 'spans')) {
        for (const name of ['traceId', 'spanId']) {
          const id = span[name]
          if (Buffer.isBuffer(id)) span[name] = id.toString('hex')
        }
      }
    }
  }
  return request
}

function listOf(message: Readonly<Record<string, unknown>>, name: string): Record<string, unknown>[] {
  const list = message[name]
  return Array.isArray(list) ? list : []
}

function flat(list: z.output<typeof attributes>, inherited: SpanAttributes): SpanAttributes {
  const result: Record<string, string | number | boolean> = { ...inherited }
  for (const { key, value } of list ?? []) {
    if (key == null) continue
    if (value?.stringValue != null) result[key] = value.stringValue
    else if (value?.intValue != null) result[key] = Number(value.intValue)
    else if (value?.boolValue != null) result[key] = value.boolValue
    else if (value?.doubleValue != null) result[key] = Number(value.doubleValue)
  }
  return result
}

const NANOS_PER_MS = 1_000_000
/** The largest time that OTLP can say, in July 2554. */
const LATEST_MS = Math.floor(2 ** 64 / NANOS_PER_MS)

/** JSON can say more than OTLP allows; what lies outside becomes the nearest time, which no event may have. */
function millisecondsOf(nanos: string | number | null | undefined): number {
  if (nanos == null) return 0
  const ms =
    typeof nanos === 'number'
      ? Math.floor(nanos / NANOS_PER_MS)
      : Number(BigInt(nanos) / BigInt(NANOS_PER_MS))
  return Math.min(Math.max(ms, 0), LATEST_MS)
}

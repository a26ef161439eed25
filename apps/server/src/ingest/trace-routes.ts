import { usageEventJsonFromSpan } from '@tokentally/core'
import type { FastifyReply } from 'fastify'
import { z } from 'zod'
import type { App } from '../http/app.ts'
import { Problem } from '../http/problem.ts'
import type { DeadLetters } from './dead-letters.ts'
import { type OtlpEncoding, readSpans } from './otlp/read-spans.ts'
import { exportTraceResponse, rpcStatus } from './otlp/trace-schema.ts'
import { type BodyLimits, readBody } from './request-body.ts'
import { type Sender, type SubmitDependencies, submit } from './submit.ts'

export interface TraceDependencies extends SubmitDependencies {
  readonly deadLetters: DeadLetters
  readonly limits: BodyLimits
}

/** gRPC status codes by HTTP status, for the body of OTLP errors (google.rpc.Code). */
const RPC_CODES: Readonly<Record<number, number>> = { 400: 3, 413: 8, 415: 3, 429: 8, 503: 14 }
const RPC_UNKNOWN = 2
/** Reasons that the answer to a partial success names. */
const REASONS_MAX = 5

/** `POST /v1/traces`, OTLP/HTTP as the OpenTelemetry protocol specification 1.x describes it. */
export function registerTraceRoutes(app: App, dependencies: TraceDependencies): void {
  app.route({
    method: 'POST',
    url: '/v1/traces',
    config: { scope: 'ingest' },
    // The handler reads the body: both encodings, compressed or not.
    validatorCompiler: () => () => ({ value: undefined }),
    schema: {
      tags: ['ingestion'],
      summary: 'OTLP/HTTP traces, protobuf or JSON',
      description:
        'Spans with GenAI attributes become usage events; others are ignored. Point any OpenTelemetry SDK or Collector here.',
      consumes: ['application/x-protobuf', 'application/json'],
      produces: ['application/x-protobuf', 'application/json'],
      body: z.unknown().describe('ExportTraceServiceRequest of opentelemetry-proto 1.x'),
      response: { 200: z.unknown().describe('ExportTraceServiceResponse') },
    },
    handler: async (request, reply) => {
      const encoding = encodingOf(request.headers['content-type'])
      if (encoding === undefined) {
        throw new Problem({
          code: 'unsupported-media-type',
          detail: 'content-type may be application/x-protobuf or application/json.',
        })
      }
      try {
        const body = await readBody(request.raw, request.headers, dependencies.limits)
        const rejected = await ingestSpans(dependencies, request, body, encoding)
        const answer =
          rejected.count === 0
            ? {}
            : { partialSuccess: { rejectedSpans: rejected.count, errorMessage: rejected.message } }
        return await send(reply, 200, encoding, encode(exportTraceResponse, answer, encoding))
      } catch (error) {
        if (!(error instanceof Problem)) throw error
        if (error.retryAfterS !== undefined) reply.header('retry-after', error.retryAfterS)
        const code = RPC_CODES[error.status] ?? RPC_UNKNOWN
        const first = error.errors?.[0]
        const message =
          first === undefined ? error.message : `${error.message} ${first.path}: ${first.message}`
        return await send(reply, error.status, encoding, encode(rpcStatus, { code, message }, encoding))
      }
    },
  })
}

async function ingestSpans(
  dependencies: TraceDependencies,
  sender: Sender,
  body: Buffer,
  encoding: OtlpEncoding,
): Promise<{ count: number; message: string }> {
  const spans = readSpans(body, encoding)
  const events = spans.flatMap((span) => usageEventJsonFromSpan(span) ?? [])
  dependencies.metrics.ignoredSpans.inc(spans.length - events.length)
  const { rejected } = await submit(dependencies, sender, events)
  // Nobody reads the answer of an exporter: what was refused is kept, so that it can be mended and replayed.
  await dependencies.deadLetters.store(sender.organizationId, 'traces', events, rejected)
  const reasons = rejected
    .slice(0, REASONS_MAX)
    .map(
      ({ event_id, errors }) =>
        `${event_id ?? '?'}: ${errors.map((e) => `${e.path} ${e.message}`).join(', ')}`,
    )
  return { count: rejected.length, message: reasons.join('; ') }
}

function encodingOf(contentType: string | undefined): OtlpEncoding | undefined {
  const mediaType = contentType?.split(';')[0]?.trim().toLowerCase()
  if (mediaType === 'application/x-protobuf' || mediaType === 'application/protobuf') return 'protobuf'
  return mediaType === 'application/json' ? 'json' : undefined
}

function encode(
  type: typeof rpcStatus,
  value: Record<string, unknown>,
  encoding: OtlpEncoding,
): string | Buffer {
  if (encoding === 'json') return JSON.stringify(value)
  return Buffer.from(type.encode(type.fromObject(value)).finish())
}

function send(
  reply: FastifyReply,
  status: number,
  encoding: OtlpEncoding,
  body: string | Buffer,
): FastifyReply {
  return reply
    .code(status)
    .header('content-type', encoding === 'json' ? 'application/json' : 'application/x-protobuf')
    .send(body)
}

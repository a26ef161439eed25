import {
  type Context,
  context,
  ProxyTracerProvider,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api'
import { type UsageEvent, usageEventToAttributes } from '@tokentally/core'
import type { CallIdentity } from './call-identity.ts'

// A proxy: it finds the application's SDK also when that is registered later.
const TRACER = '@tokentally/meter'
const tracer = trace.getTracer(TRACER)

/** A span on the application's own tracer, open while the call runs. */
export interface CallSpan {
  readonly ids: { readonly traceId: string; readonly spanId: string }
  end(event: UsageEvent): void
}

/**
 * Starts a span by the GenAI semantic conventions if the application has registered an OpenTelemetry SDK. Its
 * attributes name the event, so that a service which receives the span as well counts the call once.
 *
 * @param since when and in which span the call started, if not here and now
 * @returns undefined when nobody records spans
 */
export function startCallSpan(
  call: CallIdentity,
  model: string | undefined,
  since?: { readonly atMs: number; readonly spanContext: Context },
): CallSpan | undefined {
  if (!hasSdk()) return undefined
  const span = tracer.startSpan(
    `${call.operation} ${model ?? ''}`.trim(),
    {
      kind: SpanKind.CLIENT,
      attributes: {
        'gen_ai.operation.name': call.operation,
        'gen_ai.provider.name': call.provider,
        ...(model !== undefined && { 'gen_ai.request.model': model }),
      },
      ...(since !== undefined && { startTime: since.atMs }),
    },
    since?.spanContext,
  )
  if (!span.isRecording()) return undefined
  const { traceId, spanId } = span.spanContext()
  return { ids: { traceId, spanId }, end: (event) => end(span, event) }
}

/** The application's span that is open here and now, for calls that are metered later. */
export function activeSpanContext(): Context {
  return context.active()
}

/** Without an SDK there is nothing to describe a call for. */
function hasSdk(): boolean {
  const provider = trace.getTracerProvider()
  return !(provider instanceof ProxyTracerProvider) || provider.getDelegateTracer(TRACER) !== undefined
}

function end(span: Span, event: UsageEvent): void {
  const { 'tokentally.event_id': eventId, ...attributes } = usageEventToAttributes(event)
  span.setAttributes(attributes)
  // A fetched answer is no event: a service that receives this span knows by its operation that it is not billed.
  if (eventId !== undefined && event.operation !== 'fetch_response') {
    span.setAttribute('tokentally.event_id', eventId)
  }
  if (event.status === 'error') {
    span.setStatus({ code: SpanStatusCode.ERROR })
    // The code, not what the provider says: that may quote a prompt.
    span.setAttribute('error.type', event.reason ?? '_OTHER')
  }
  span.end()
}

import { createServer } from 'node:http'
import { SpanKind, SpanStatusCode } from '@opentelemetry/api'
import {
  InMemorySpanExporter,
  NodeTracerProvider,
  type ReadableSpan,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-node'

/** Spans made and exported by the OpenTelemetry SDK. */

export type Attributes = Readonly<Record<string, string | number | boolean | string[]>>

/** Spans as an app with the OpenTelemetry SDK makes them. */
export function makeSpans(
  ...spans: readonly { attributes: Attributes; error?: string }[]
): readonly ReadableSpan[] {
  const memory = new InMemorySpanExporter()
  const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(memory)] })
  const tracer = provider.getTracer('test')
  for (const { attributes, error } of spans) {
    const span = tracer.startSpan('chat', {
      kind: SpanKind.CLIENT,
      attributes: Object.fromEntries(Object.entries(attributes)),
    })
    if (error !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: error })
    span.end()
  }
  return memory.getFinishedSpans()
}

/** Any span exporter. */
export interface Exporter {
  export(spans: ReadableSpan[], done: (result: { code: number; error?: Error }) => void): void
}
/** Exports spans; the code is 0 for success. */
export function exportSpans(
  exporter: Exporter,
  spans: readonly ReadableSpan[],
): Promise<{ code: number; error?: Error }> {
  return new Promise((resolve) => exporter.export([...spans], resolve))
}

/** What an exporter sends. */
export async function recordBody(
  makeExporter: (url: string) => Exporter,
  spans: readonly ReadableSpan[],
): Promise<Buffer> {
  const bodies: Buffer[] = []
  const server = createServer(async (request, response) => {
    bodies.push(Buffer.concat(await request.toArray()))
    response.end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  await exportSpans(makeExporter(`http://127.0.0.1:${port}`), spans)
  server.closeAllConnections()
  server.close()
  return Buffer.concat(bodies)
}

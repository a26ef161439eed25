import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { trace } from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node'
import { attribute, flush, shutdown, start } from '@tokentally/meter'
import OpenAI from 'openai'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { z } from 'zod'
import { type FakeProvider, startFakeProvider } from '../fake-provider/index.ts'
import { createTestDatabase, startService, type TestDatabase, type TestService } from '../harness/index.ts'

/** An application that has an OpenTelemetry SDK of its own, and exports its spans to the service as well. */

let provider: FakeProvider
let database: TestDatabase
let service: TestService
let spool: string
let tracerProvider: NodeTracerProvider
const spans = new InMemorySpanExporter()

beforeAll(async () => {
  provider = await startFakeProvider()
  database = await createTestDatabase()
  service = await startService({ databaseUrl: database.url })
  spool = await mkdtemp(join(tmpdir(), 'tokentally-'))
  const exporter = new OTLPTraceExporter({
    url: `${service.url}/v1/traces`,
    headers: { authorization: `Bearer ${service.ownerKey}` },
  })
  tracerProvider = new NodeTracerProvider({
    spanProcessors: [new SimpleSpanProcessor(spans), new SimpleSpanProcessor(exporter)],
  })
  tracerProvider.register()
  start({
    url: service.url,
    apiKey: service.ownerKey,
    endpoints: `${provider.url}/v1=openai`,
    spool,
  })
})

afterAll(async () => {
  await shutdown()
  await tracerProvider.shutdown()
  trace.disable()
  await service.stop()
  await provider.close()
  await database.drop()
  await rm(spool, { recursive: true })
})

const answer = z.object({ events: z.array(z.looseObject({ event_id: z.string() })) })

test('a call is a span under the span that is active, and one event, though both arrive', async () => {
  const openai = new OpenAI({ apiKey: 'sk-test', baseURL: `${provider.url}/v1` })
  const messages = [{ role: 'user' as const, content: 'Say something.' }]
  const parent = await trace.getTracer('app').startActiveSpan('request', async (span) => {
    await attribute({ customer: 'acme' }, () =>
      openai.chat.completions.create({ model: 'gpt-4o-mini', messages }),
    )
    span.end()
    return span.spanContext()
  })
  expect(await flush()).toBe(0)
  await tracerProvider.forceFlush()

  const [billed] = provider.billed
  const span = spans.getFinishedSpans().find(({ name }) => name === 'chat gpt-4o-mini')
  expect(span?.parentSpanContext?.spanId).toBe(parent.spanId)
  expect(span?.attributes).toMatchObject({
    'gen_ai.operation.name': 'chat',
    'gen_ai.provider.name': 'openai',
    'gen_ai.request.model': 'gpt-4o-mini',
    'gen_ai.usage.input_tokens': billed?.inputTokens,
    'gen_ai.usage.output_tokens': billed?.outputTokens,
    'tokentally.customer_id': 'acme',
  })

  const response = await fetch(`${service.url}/api/v1/usage`, {
    headers: { authorization: `Bearer ${service.ownerKey}` },
  })
  const { events } = answer.parse(await response.json())
  expect(events).toMatchObject([
    {
      event_id: span?.attributes['tokentally.event_id'],
      trace_id: parent.traceId,
      span_id: span?.spanContext().spanId,
      input_tokens: billed?.inputTokens,
      output_tokens: billed?.outputTokens,
    },
  ])
  const deadLetters = await fetch(`${service.url}/api/v1/dead-letters`, {
    headers: { authorization: `Bearer ${service.ownerKey}` },
  })
  expect(await deadLetters.json()).toEqual({ dead_letters: [] })
})
